"""Judge an output: the same query for every contender, compared with the oracle's.

Sums of 64-bit hashes do not depend on order or files: of the key columns, of whole rows and of raw
lines. One lost, doubled or changed row changes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peers.contenders import Contender
from peers.job import COLUMNS, DAY_NS, KEY

_SILVER = """
WITH rows AS (
  SELECT {columns}, {file} AS file FROM ({silver})
)
SELECT count(*) AS silver_rows, count(DISTINCT hash({key})) AS distinct_keys,
       sum(hash({key}))::VARCHAR AS key_hash, sum(hash({row}))::VARCHAR AS row_hash,
       sum(price)::VARCHAR AS price_sum, sum(size)::VARCHAR AS size_sum,
       count(DISTINCT ts_event_ns // {day}) AS days,
       (SELECT count(*) FROM (SELECT 1 FROM rows GROUP BY file
                              HAVING count(DISTINCT ts_event_ns // {day}) > 1)) AS files_over_days
FROM rows
"""
_LINES = "SELECT count(*) AS {name}, sum(hash(line))::VARCHAR AS {name}_hash FROM ({sql})"

ORACLE = Contender("oracle", "the plain program", "oracle", ())


def read_figures(contender: Contender, folder: Path) -> dict[str, Any]:
    """What an output holds, in counts and sums of hashes.

    Raises: duckdb.Error if a part of it is missing or cannot be read.
    """
    import duckdb

    sql = duckdb.connect(":memory:")
    silver = contender.silver.format(out=folder)
    figures: dict[str, Any] = {}
    query = _SILVER.format(
        columns=", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind in COLUMNS.items()),
        file="filename" if contender.by_day else "''",
        silver=silver.replace("SELECT * FROM '", "SELECT *, filename FROM '"),
        key=", ".join(KEY),
        row=", ".join(COLUMNS),
        day=DAY_NS,
    )
    figures |= _read_row(sql.execute(query))
    if not contender.by_day:
        del figures["files_over_days"]
    for name, part in (("messages", contender.bronze), ("rejected", contender.quarantine)):
        if part is not None:
            found = sql.execute(_LINES.format(name=name, sql=part.format(out=folder)))
            figures |= _read_row(found)
    return figures


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What is not as expected, in words; a figure that a contender has not is no difference.

    >>> differences({"silver_rows": 3}, {"silver_rows": 2, "messages": 4})
    ['silver_rows: 3, expected 2']
    """
    return [
        f"{name}: {value}, expected {expected[name]}"
        for name, value in found.items()
        if value != expected[name]
    ]


def _read_row(found: Any) -> dict[str, Any]:
    names = [column[0] for column in found.description]
    return dict(zip(names, found.fetchone(), strict=True))
