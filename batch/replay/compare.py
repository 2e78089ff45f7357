"""Compare replayed slices with what Silver holds of them, row by row, in SQL.

Only slices whose outcome is not the recorded one byte for byte get here. Rows are compared as
multisets over all columns, so another version of the Parquet writer changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from batch.replay.reprocess import Outcome
from stream.lake.sql import connect_sql, parquet_source
from stream.lake.store import Store
from stream.quarantine import read_rejects

SAMPLES = 5


@dataclass(slots=True)
class Comparison:
    """Which slices differ and how. `changed`: slice ids; rows count only if they differ."""

    changed: set[str] = field(default_factory=set)
    rows_added: int = 0
    rows_removed: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)


def compare(
    outcomes: Sequence[Outcome],
    held: Sequence[str],
    *,
    lake: Store,
    region: str,
    store: Store,
    schema: pa.Schema,
) -> Comparison:
    """Compare outcomes with the rows of their slices in data files.

    Args: held: addresses of the current files that hold old rows of these slices. store: where
    the new files can be read.
    """
    doubtful = {o.state.record.slice_id: o for o in outcomes if not o.is_same}
    found = Comparison()
    if not doubtful:
        return found
    with closing(connect_sql(lake.root, region, memory_limit="2GB")) as sql:
        new = [store.uri(item.path) for o in doubtful.values() for item in o.result.record.silver]
        _load(sql, doubtful, held, new, schema)
        for side, minus in (("added", "old_rows"), ("removed", "new_rows")):
            _differ(sql, found, side, minus)
    for name, outcome in doubtful.items():
        if not _is_same_record(store, outcome):
            found.changed.add(name)
    return found


def _load(
    sql: duckdb.DuckDBPyConnection,
    doubtful: Mapping[str, Outcome],
    held: Sequence[str],
    new: Sequence[str],
    schema: pa.Schema,
) -> None:
    sql.register("wanted", pa.table({"slice_id": pa.array(list(doubtful), pa.string())}))
    for name, files in (("old_rows", held), ("new_rows", new)):
        source = parquet_source(files, schema)
        sql.execute(f"CREATE VIEW {name} AS FROM {source} SEMI JOIN wanted USING (slice_id)")


def _differ(sql: duckdb.DuckDBPyConnection, found: Comparison, side: str, minus: str) -> None:
    plus = "new_rows" if minus == "old_rows" else "old_rows"
    sql.execute(f"CREATE TEMP TABLE {side} AS FROM {plus} EXCEPT ALL FROM {minus}")
    counts = sql.execute(f"SELECT slice_id, count(*) FROM {side} GROUP BY ALL").fetchall()  # noqa: S608
    found.changed |= {slice_id for slice_id, _ in counts}
    rows = sum(count for _, count in counts)
    if side == "added":
        found.rows_added = rows
    else:
        found.rows_removed = rows
    some = sql.execute(f"FROM {side} ORDER BY ALL LIMIT {SAMPLES}").to_arrow_table().to_pylist()
    found.samples += [{"change": side, **row} for row in some]


def _is_same_record(store: Store, outcome: Outcome) -> bool:
    """Whether the counts and the quarantine are the recorded ones (its rows were compared)."""
    old, new = outcome.state.record, outcome.result.record
    counts = ("messages", "silver_rows", "duplicates", "ignored", "rejected")
    if outcome.state.redriven or any(getattr(old, n) != getattr(new, n) for n in counts):
        return False
    if old.quarantine == new.quarantine:
        return True
    if old.quarantine is None or new.quarantine is None:
        return False
    before, after = store.get(old.quarantine.path), store.get(new.quarantine.path)
    if before is None or after is None:
        return False
    return bool(read_rejects(before).equals(read_rejects(after)))
