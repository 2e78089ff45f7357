"""What the job must yield, by the plainest possible program: one `json.loads` a line, one set.

It shares no code with any runner, headrace's included, and writes its answer as Parquet, so that
the query that judges the runners also says what is expected of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from peers.job import DAY_NS, KEY

BATCH = 100_000


def write_expected(files: Iterable[Path], folder: Path) -> None:
    """Do the job in pure Python: `bronze.parquet`, `silver/*.parquet`, `quarantine.parquet`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    (folder / "silver").mkdir()
    price = pa.decimal128(18, 8)
    schema = pa.schema(
        [(name, pa.string()) for name in ("venue", "symbol", "trade_id", "kind", "side")]
        + [("price", price), ("size", price), ("ts_event_ns", pa.int64())]
        + [("known_at_ns", pa.int64())]
    )
    days: dict[int, list[dict[str, Any]]] = {}
    lines: list[bytes] = []
    refused: list[bytes] = []
    seen: set[tuple[object, ...]] = set()
    for file in files:
        for line in file.read_bytes().splitlines():
            lines.append(line)
            trade = read_trade(line)
            if trade is None:
                refused.append(line)
            elif (key := tuple(trade[name] for name in KEY)) not in seen:
                seen.add(key)
                days.setdefault(trade["ts_event_ns"] // DAY_NS, []).append(trade)
        for day, trades in days.items():
            if len(trades) >= BATCH:
                _write_day(folder / "silver", day, trades, schema)
    for day, trades in days.items():
        _write_day(folder / "silver", day, trades, schema)
    for name, found in (("bronze", lines), ("quarantine", refused)):
        table = pa.table({"line": pa.array(found, pa.binary()).cast(pa.string())})
        pq.write_table(table, folder / f"{name}.parquet")


def read_trade(line: bytes) -> dict[str, Any] | None:
    """A valid trade, or None.

    >>> line = b'{"venue":"sim","symbol":"A","trade_id":"1","ts_event_ns":5,"price":0.1,"size":2}'
    >>> read_trade(line)["kind"], read_trade(line)["price"]
    ('new', Decimal('0.1'))
    >>> read_trade(line[:-1]), read_trade(line.replace(b"0.1", b"NaN"))
    (None, None)
    """
    try:
        found = json.loads(line, parse_float=Decimal, parse_constant=lambda _: None)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("venue") != "sim":
        return None
    if not all(isinstance(found.get(name), str) for name in ("symbol", "trade_id")):
        return None
    if type(found.get("ts_event_ns")) is not int:
        return None
    for name in ("price", "size"):
        if type(found.get(name)) not in (int, Decimal) or found[name] <= 0:
            return None
        found[name] = Decimal(found[name])
    absent = {"kind": "new", "side": "unknown", "known_at_ns": found["ts_event_ns"]}
    return absent | found


def _write_day(folder: Path, day: int, trades: list[dict[str, Any]], schema: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if trades:
        part = len(list(folder.glob(f"{day}-*")))
        pq.write_table(pa.Table.from_pylist(trades, schema), folder / f"{day}-{part:04d}.parquet")
        trades.clear()
