"""The job on DuckDB: one SQL script over all files at once.

`--option dedup=off` leaves the duplicates in: a wrong output on purpose, for the test of the check.
"""

from __future__ import annotations

import argparse

from peers.job import Job, run

JOB = """
CREATE TEMP TABLE raw AS
  SELECT line, row_number() OVER () AS n
  FROM read_csv('{source}', columns={{'line': 'VARCHAR'}}, delim='\\x01', quote='', escape='',
                header=false, auto_detect=false, max_line_size=1000000);
COPY (SELECT line FROM raw) TO '{out}/bronze.parquet' (COMPRESSION zstd, COMPRESSION_LEVEL 1);
CREATE TEMP TABLE typed AS
  SELECT n, line, r.* FROM (SELECT n, line, from_json(try_cast(line AS JSON), '{{
    "venue": "VARCHAR", "symbol": "VARCHAR", "trade_id": "VARCHAR", "kind": "VARCHAR",
    "ts_event_ns": "BIGINT", "price": "JSON", "size": "JSON", "side": "VARCHAR",
    "known_at_ns": "BIGINT"}}') AS r FROM raw);
CREATE TEMP TABLE checked AS
  SELECT * REPLACE (try_cast(price::VARCHAR AS DECIMAL(18,8)) AS price,
                    try_cast(size::VARCHAR AS DECIMAL(18,8)) AS size,
                    coalesce(kind, 'new') AS kind, coalesce(side, 'unknown') AS side,
                    coalesce(known_at_ns, ts_event_ns) AS known_at_ns)
  FROM typed;
COPY (
  SELECT * EXCLUDE (n, line), make_timestamp(ts_event_ns // 1000) AS ts_event,
         make_timestamp(ts_event_ns // 1000)::DATE AS day
  FROM checked
  WHERE venue = 'sim' AND symbol IS NOT NULL AND trade_id IS NOT NULL AND price > 0 AND size > 0
    AND ts_event_ns IS NOT NULL
  {dedup}
  ORDER BY symbol, ts_event_ns
) TO '{out}/silver' (FORMAT parquet, PARTITION_BY (day), COMPRESSION zstd, COMPRESSION_LEVEL 1);
COPY (
  SELECT line FROM checked
  WHERE NOT coalesce(venue = 'sim' AND symbol IS NOT NULL AND trade_id IS NOT NULL AND price > 0
                     AND size > 0 AND ts_event_ns IS NOT NULL, false)
) TO '{out}/quarantine.parquet' (COMPRESSION zstd);
"""
FIRST_OF_ITS_KEY = (
    "QUALIFY row_number() OVER (PARTITION BY venue, symbol, trade_id, kind, known_at_ns "
    "ORDER BY n) = 1"
)


def prepare(options: argparse.Namespace) -> Job:
    """Import and connect."""
    import duckdb

    sql = duckdb.connect(":memory:")
    sql.execute(f"SET threads = {options.threads}")
    dedup = "" if options.option.get("dedup") == "off" else FIRST_OF_ITS_KEY
    script = JOB.format(source=options.input / "*.jsonl", out=options.output, dedup=dedup)

    def job() -> None:
        sql.execute(script)

    return job


if __name__ == "__main__":
    run(prepare)
