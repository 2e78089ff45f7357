"""What must hold after a crash window: exactly once, Bronze as it was, positions on, proven."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
from crash_stage import FEED, Case

from stream.bars import FROM_TRADES
from stream.bronze import read_bronze
from stream.decode import decode_records
from stream.errors import ConfigError, StoreUnavailableError
from stream.feeds import load_feed
from stream.lake.entries import Entry
from stream.lake.layout import BronzeKey
from stream.prove import prove
from stream.query import run_query
from stream.slices import RECORD_SCHEMA, is_after
from stream.sources.kinesis import KinesisReader

QUIET_NOTES = {"remnant", "rewritten"}
"""No differences: an object of a lost race repeats records of a committed one; a data file was
rewritten by compaction and is hashed against its receipt."""

FORGOTTEN_NOTES = {"gap", "stranded"}


@dataclass(frozen=True)
class Verdict:
    """What was found after a restart. Counts of rows, bars, objects and shards."""

    missing: int
    doubled: int
    bars_wrong: int
    bronze_changed: int
    positions_back: int
    positions_misplaced: int
    is_proven: bool
    gaps: int
    ended_shards: int
    words: str = field(repr=False)
    """What `prove` said, and the last words of every process."""

    @property
    def is_right(self) -> bool:
        counts = (self.missing, self.doubled, self.bars_wrong, self.bronze_changed)
        return self.is_proven and not any((*counts, self.positions_back, self.positions_misplaced))


def judge_case(case: Case, *, bronze: dict[str, str], lost: Collection[bytes] = ()) -> Verdict:
    """Compare everything with what was published.

    Args: bronze: hashes of the objects at the crash. lost: messages that retention or a deletion
    took before anyone read them: these, and only these, may be missing behind a named gap.
    """
    expected = expected_rows(case, lost)
    missing, doubled = _row_differences(case, expected)
    now = bronze_hashes(case)
    proof = prove(case.settings, FEED, threads=2)
    quiet = QUIET_NOTES | (FORGOTTEN_NOTES if lost else set())
    notes = [str(note) for note in proof.notes if note.kind not in quiet]
    entries = case.entries()
    return Verdict(
        missing=missing,
        doubled=doubled,
        bars_wrong=sum(_bar_differences(case, expected)),
        bronze_changed=sum(now.get(path) != digest for path, digest in bronze.items()),
        positions_back=sum(map(_steps_back, entries, entries[1:])),
        positions_misplaced=len(_misplaced(case)),
        is_proven=proof.is_equal and not notes,
        gaps=sum(len(entry.gaps) for entry in entries),
        ended_shards=sum(p.is_ended for p in case.ledger.head().positions.values()),
        words="\n".join([*map(str, proof.differences), *notes, case.words()]),
    )


def committed_messages(case: Case) -> set[bytes]:
    """Every message of the Bronze objects that the ledger names."""
    paths = [s.bronze.path for entry in case.entries() for s in entry.slices if s.bronze]
    found: set[bytes] = set()
    for path, data in zip(paths, case.lake.store.get_many(paths, 4), strict=True):
        assert data is not None, path
        for payload in read_bronze(data, path)["payload"].to_pylist():
            found.update(case.messages[payload])
    return found


def bronze_hashes(case: Case) -> dict[str, str]:
    """sha256 of every Bronze object."""
    store = case.lake.store
    paths = [info.path for info in store.list(BronzeKey.prefix(FEED))]
    data = store.get_many(paths, 4)
    return {p: hashlib.sha256(d or b"").hexdigest() for p, d in zip(paths, data, strict=True)}


def uncommitted_bronze(case: Case) -> list[str]:
    """Bronze objects that no entry of the ledger names."""
    named = {s.bronze.path for entry in case.entries() for s in entry.slices if s.bronze}
    return sorted(set(bronze_hashes(case)) - named)


def expected_rows(case: Case, lost: Collection[bytes]) -> pa.Table:
    """Distinct valid rows of what was published and not lost, by the per-record decoder."""
    published = zip(case.published, case.arrivals_ns, strict=True)
    kept = [(key, line, arrival) for (key, line), arrival in published if line not in lost]
    keys, lines, arrivals = zip(*kept, strict=True)
    count = len(kept)
    records = pa.record_batch(
        [
            pa.array(lines, pa.binary()),
            pa.array([str(n) for n in range(count)]),
            pa.array(np.zeros(count, np.int32)),
            pa.array(keys),
            pa.array(arrivals, pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )
    contract = load_feed(FEED)
    rows = decode_records(contract, records, strict_only=True).rows
    with duckdb.connect() as sql:
        sql.register("rows", rows)
        key = ", ".join(contract.key)
        return sql.execute(
            "SELECT * FROM rows QUALIFY"
            f" row_number() OVER (PARTITION BY {key} ORDER BY record_no) = 1"
        ).to_arrow_table()


def _row_differences(case: Case, expected: pa.Table) -> tuple[int, int]:
    columns = ", ".join(load_feed(FEED).key)
    found = _query(case, f"SELECT {columns} FROM {FEED}")
    if found is None:
        return expected.num_rows, 0
    return _differences(found, expected.select(found.column_names))


def _bar_differences(case: Case, expected: pa.Table) -> tuple[int, int]:
    """The current bars against bars computed in one go from the expected trades."""
    values = "venue, symbol, open, high, low, close, volume, notional, trades"
    found = _query(
        case,
        f"SELECT ts_event_ns AS minute_ns, {values} FROM bars_1m_current WHERE trades > 0",
    )
    with duckdb.connect() as sql:
        sql.register("trades", expected)
        batch = sql.execute(
            f"SELECT minute_ns, {values} FROM ({FROM_TRADES}) WHERE trades > 0"
        ).to_arrow_table()
    assert batch.num_rows > 10, "too few bars to compare"
    return (batch.num_rows, 0) if found is None else _differences(found, batch)


def _query(case: Case, sql: str) -> pa.Table | None:
    """None when a data file of the table is not there."""
    try:
        return run_query(case.settings, sql)
    except (ConfigError, StoreUnavailableError):
        return None


def _differences(found: pa.Table, expected: pa.Table) -> tuple[int, int]:
    """Rows that are missing, rows that are too many."""
    with duckdb.connect() as sql:
        sql.register("found", found)
        sql.register("expected", expected)
        row = sql.execute(
            "SELECT (SELECT count(*) FROM (FROM expected EXCEPT ALL FROM found)),"
            " (SELECT count(*) FROM (FROM found EXCEPT ALL FROM expected))"
        ).fetchone()
    assert row is not None
    return row


def _steps_back(before: Entry, after: Entry) -> int:
    """Shards whose position in an entry is behind, or open again after its end."""
    pairs = [(p, after.positions[s]) for s, p in before.positions.items() if s in after.positions]
    return sum(
        (p.sequence_number is not None and is_after(p.sequence_number, q.sequence_number))
        or (p.is_ended and not q.is_ended)
        for p, q in pairs
    )


def _misplaced(case: Case) -> set[str]:
    """Shards of this life of the stream that are open without a position, or closed with an open
    one."""
    reader = KinesisReader(case.stream)
    prefix = f"{reader.identity}/"
    listed = {f"{prefix}{shard.shard}": shard for shard in reader.list_shards()}
    positions = {s: p for s, p in case.ledger.head().positions.items() if s.startswith(prefix)}
    is_open = {shard for shard, position in positions.items() if not position.is_ended}
    wanted = {shard for shard, info in listed.items() if not info.is_closed}
    return (is_open ^ wanted) | (set(listed) - set(positions))
