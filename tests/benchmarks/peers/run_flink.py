"""The job on PyFlink SQL: one streaming job, exactly-once checkpoints of 10 s, all inside the JVM.

Two sources over the same files: raw lines for Bronze, JSON with a schema for Silver, whose errors
become nulls or drop the line; its wheel holds no way to keep them, nor Parquet. The first row of a
key by processing time is kept, which Flink runs as its append-only de-duplication with a state that
forgets after the job's horizon. Two slots. No mini-batches: with them a first row may
be taken back, which a file sink refuses.
"""

from __future__ import annotations

import argparse

from peers.job import HORIZON_MINUTES, Job, run

TABLES = """
CREATE TABLE messages (line STRING) WITH (
  'connector' = 'filesystem', 'path' = '{input}', 'format' = 'raw');
CREATE TABLE trades (
  venue STRING, symbol STRING, trade_id STRING, kind STRING, side STRING, price DECIMAL(18, 8),
  size DECIMAL(18, 8), ts_event_ns BIGINT, known_at_ns BIGINT, seen AS PROCTIME()
) WITH ('connector' = 'filesystem', 'path' = '{input}', 'format' = 'json',
        'json.ignore-parse-errors' = 'true');
CREATE TABLE bronze (line STRING) WITH (
  'connector' = 'filesystem', 'path' = '{output}/bronze', 'format' = 'raw');
CREATE TABLE silver (
  venue STRING, symbol STRING, trade_id STRING, kind STRING, side STRING, price DECIMAL(18, 8),
  size DECIMAL(18, 8), ts_event_ns BIGINT, known_at_ns BIGINT, ts_event TIMESTAMP(6), `day` STRING
) PARTITIONED BY (`day`) WITH (
  'connector' = 'filesystem', 'path' = '{output}/silver', 'format' = 'json')
"""
SILVER = """
INSERT INTO silver
SELECT venue, symbol, trade_id, kind, side, price, size, ts_event_ns, known_at_ns,
       CAST(TO_TIMESTAMP_LTZ(ts_event_ns / 1000000, 3) AS TIMESTAMP(6)),
       DATE_FORMAT(TO_TIMESTAMP_LTZ(ts_event_ns / 1000000, 3), 'yyyy-MM-dd')
FROM (
  SELECT *, ROW_NUMBER() OVER (
    PARTITION BY venue, symbol, trade_id, kind, known_at_ns ORDER BY seen ASC) AS n
  FROM (
    SELECT venue, symbol, trade_id, COALESCE(kind, 'new') AS kind,
           COALESCE(side, 'unknown') AS side, price, size, ts_event_ns,
           COALESCE(known_at_ns, ts_event_ns) AS known_at_ns, seen
    FROM trades
    WHERE venue = 'sim' AND symbol IS NOT NULL AND trade_id IS NOT NULL
      AND ts_event_ns IS NOT NULL AND price > 0 AND size > 0))
WHERE n = 1
"""


def prepare(options: argparse.Namespace) -> Job:
    """Import, start the JVM, declare the tables."""
    from pyflink.common import Configuration
    from pyflink.table import EnvironmentSettings, TableEnvironment

    configuration = Configuration()
    for name, value in {
        "parallelism.default": str(options.threads),
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.dir": f"file://{options.output}/checkpoints",
        "execution.runtime-mode": "STREAMING",
        "table.exec.state.ttl": f"{HORIZON_MINUTES} min",
        "table.local-time-zone": "UTC",
        "taskmanager.memory.task.heap.size": "2 gb",
        "rest.bind-address": "127.0.0.1",
        "rest.port": "0",
    }.items():
        configuration.set_string(name, value)
    settings = EnvironmentSettings.new_instance().with_configuration(configuration).build()
    tables = TableEnvironment.create(settings)
    for statement in TABLES.format(input=options.input, output=options.output).split(";"):
        tables.execute_sql(statement)

    def job() -> None:
        statements = tables.create_statement_set()
        statements.add_insert_sql("INSERT INTO bronze SELECT line FROM messages")
        statements.add_insert_sql(SILVER)
        statements.execute().wait()

    return job


if __name__ == "__main__":
    run(prepare)
