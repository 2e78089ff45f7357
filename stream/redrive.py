"""Land quarantined messages that the decoder of today accepts: once, after a decoder fix.

    quarantine objects ─▶ decode again, mask ─▶ new to Silver? ─▶ data files ─▶ ONE commit ─▶ bars

A message leaves the quarantine when nothing of it is refused any more; the others stay. Its rows
carry the slice, shard and sequence number that it came with, so lineage and `prove` hold, and
are marked late: they landed past the dedup horizon.

Guarantees: each message lands once, whatever crashes and however many redrives run (the ledger
entry names the messages, and the commit is a compare-and-swap); the dry run writes nothing.
Not here: what a message means (`decode`).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream.bar_keeper import open_bars
from stream.clock import SYSTEM_CLOCK, Clock
from stream.decode import decode_records
from stream.dedup import Distinct
from stream.errors import FatalError
from stream.feeds import load_feed
from stream.feeds.contract import Contract
from stream.keyhash import Hashes, hash_rows
from stream.lake.catalog import StagedFile
from stream.lake.connect import Lake, connect_lake
from stream.lake.entries import Head, ObjectRef, Redriven, SliceRecord
from stream.lake.history import SliceState, current_slices
from stream.lake.layout import SilverKey
from stream.lake.ledger import Ledger
from stream.lake.store import Store
from stream.masking import Masker, open_masker, pin_masker, row_mask
from stream.quarantine import read_rejects
from stream.settings import Settings
from stream.silver import DataFile, build_files, silver_rows, slice_dictionary
from stream.slices import RECORD_SCHEMA, Slice

Key = tuple[int, int]
"""A message of a quarantine object: (record_no, line_no)."""


@dataclass(slots=True)
class RedriveReport:
    """What a redrive did, or would do. Counts are messages, by the reason they were refused for
    (`accepted`) or are refused for now (`still_rejected`).
    """

    feed: str
    is_applied: bool
    messages: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    still_rejected: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    silver_rows: int = 0
    duplicates: int = 0
    slices: int = 0
    commit: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The messages of one quarantine object that are accepted now, and their rows."""

    record: SliceRecord
    keys: tuple[Key, ...]
    reasons: Counter[str]
    ignored: int
    rows: pa.Table
    hashes: Hashes


def redrive_feed(
    settings: Settings, feed: str, *, reasons: Collection[str] = (), apply: bool = False
) -> RedriveReport:
    """Decode a feed's quarantine again and land what is accepted now.

    Args: reasons: only messages refused for one of these; empty = all. apply: without it
    nothing is written.

    Raises: ConfigError (no such feed, never started), FatalError (a quarantine object is gone).
    """
    lake, contract = connect_lake(settings), load_feed(feed)
    masker = open_masker(settings, lake, contract)
    return redrive(lake, contract, reasons, dry_run=not apply, masker=masker)


def redrive(
    lake: Lake,
    contract: Contract,
    reasons: Collection[str] = (),
    *,
    dry_run: bool = True,
    clock: Clock = SYSTEM_CLOCK,
    masker: Masker | None = None,
) -> RedriveReport:
    """`redrive_feed` for a lake and a contract at hand. `masker`: required with personal data."""
    work = _Redrive(lake, contract, frozenset(reasons), row_mask(contract, masker))
    if dry_run:
        return work.report(work.plan(), is_applied=False)
    table, _ = lake.ledger(contract.feed)
    pin_masker(table, masker)
    ledger = Ledger(contract.feed, table, lake.store, clock)
    schema, planned = table.arrow_schema, list[Landing]()

    def plan(_: Head) -> tuple[Sequence[Redriven], Sequence[StagedFile]]:
        planned[:] = work.plan()
        return _write(lake.store, contract, schema, planned)

    entry = ledger.commit_redrive(plan)
    report = work.report(planned, is_applied=True)
    report.commit = entry.number if entry else None
    if bars := open_bars(lake, contract, ledger):
        bars.catch_up()
    return report


@dataclass(frozen=True, slots=True)
class Landing:
    """What one quarantine object's accepted messages come to: the rows that Silver lacks."""

    accepted: Accepted
    rows: pa.Table
    duplicates: int


class _Redrive:
    """Plans a redrive against what is committed, anew before every attempt to commit.

    Reads through table handles of its own: refreshing the one that commits would let a commit
    pass whose plan is older than the table.
    """

    def __init__(
        self,
        lake: Lake,
        contract: Contract,
        reasons: frozenset[str],
        mask: Callable[[pa.Table], pa.Table],
    ) -> None:
        self._contract = contract
        self._mask = mask
        self._store = lake.store
        self._reasons = reasons
        self._table, self._ledger = lake.ledger(contract.feed)
        self._number = 0
        self._slices: dict[str, SliceState] = {}
        self._done: frozenset[tuple[str, int, int]] = frozenset()
        self._is_planned = False
        self._accepted: list[Accepted] = []
        self._refused: dict[str, int] = {}
        self._mine = np.zeros(0, np.uint64)
        self._committed = np.zeros(0, np.uint64)
        self._read_files: set[str] = set()

    def plan(self) -> list[Landing]:
        """What would land now: messages that nobody landed, rows whose key is not in Silver."""
        entries = self._ledger.entries(after=self._number)
        self._number = entries[-1].number if entries else self._number
        self._slices = current_slices(entries, self._slices)
        if not self._is_planned or any(e.kind in ("redrive", "replay") for e in entries):
            self._done = frozenset().union(*(state.landed for state in self._slices.values()))
            self._decode()
            self._is_planned = True
        self._look_up()
        return self._drop_known()

    def report(self, landings: Sequence[Landing], *, is_applied: bool) -> RedriveReport:
        """Counts of a plan."""
        reasons: Counter[str] = Counter()
        for landing in landings:
            reasons.update(landing.accepted.reasons)
        accepted = sum(reasons.values())
        return RedriveReport(
            self._contract.feed,
            is_applied,
            messages=accepted + sum(self._refused.values()),
            accepted=dict(reasons),
            still_rejected=dict(self._refused),
            ignored=sum(landing.accepted.ignored for landing in landings),
            silver_rows=sum(landing.rows.num_rows for landing in landings),
            duplicates=sum(landing.duplicates for landing in landings),
            slices=len(landings),
        )

    def _decode(self) -> None:
        """Decode all that is in quarantine for these reasons and that nobody landed."""
        refused: Counter[str] = Counter()
        self._accepted = []
        for record in (state.record for state in self._slices.values()):
            if record.quarantine is None or not self._is_wanted(record):
                continue
            messages = _messages(self._store, record.quarantine, self._done, self._reasons)
            if messages.num_rows:
                accepted = _decode_again(self._contract, self._mask, record, messages, refused)
                self._accepted += [accepted] if accepted.keys else []
        self._refused = dict(refused)
        hashes = [accepted.hashes for accepted in self._accepted]
        self._mine = np.unique(np.concatenate([np.zeros(0, np.uint64), *hashes]))
        self._committed = self._mine[:0]
        self._read_files = set()

    def _is_wanted(self, record: SliceRecord) -> bool:
        return not self._reasons or not self._reasons.isdisjoint(record.rejected)

    def _look_up(self) -> None:
        """Which of our keys Silver holds; files that were read before are not read again."""
        times = [a.rows[self._contract.event_time] for a in self._accepted if a.rows.num_rows]
        if not times:
            return
        low = min(pc.min(time).as_py() for time in times) // 1000
        high = max(pc.max(time).as_py() for time in times) // 1000 + 1
        self._table.refresh()
        files = set(self._table.data_files_between(low, high)) - self._read_files
        paths = [self._store.relative(address) for address in sorted(files)]
        found = [self._committed]
        for data in self._store.get_many(paths):
            if data is not None:
                rows = pq.read_table(io.BytesIO(data), columns=list(self._contract.key))
                found.append(np.intersect1d(hash_rows(rows, self._contract.key), self._mine))
        self._committed = np.unique(np.concatenate(found))
        self._read_files |= files

    def _drop_known(self) -> list[Landing]:
        seen, landings = self._committed, []
        for accepted in self._accepted:
            is_new = np.zeros(accepted.rows.num_rows, bool)
            is_new[np.unique(accepted.hashes, return_index=True)[1]] = True
            is_new &= ~np.isin(accepted.hashes, seen)
            seen = np.concatenate([seen, accepted.hashes[is_new]])
            rows = accepted.rows.filter(pa.array(is_new))
            landings.append(Landing(accepted, rows, accepted.rows.num_rows - rows.num_rows))
        return landings


def _messages(
    store: Store,
    reference: ObjectRef,
    done: Collection[tuple[str, int, int]],
    reasons: Collection[str],
) -> pa.Table:
    """The messages of an object, once each, that nobody has landed."""
    data = store.get(reference.path)
    if data is None:
        raise FatalError(
            f"quarantine object {reference.path} is missing although the ledger names it. Restore "
            "it from the bucket's versions; `headrace prove` lists all that is missing."
        )
    rejects = read_rejects(data)
    keys = list(zip(rejects["record_no"].to_pylist(), rejects["line_no"].to_pylist(), strict=True))
    kinds = rejects["reason"].to_pylist()
    wanted: dict[Key, int] = {}
    for row, (key, reason) in enumerate(zip(keys, kinds, strict=True)):
        if (not reasons or reason in reasons) and (reference.path, *key) not in done:
            wanted.setdefault(key, row)
    return rejects.take(pa.array(list(wanted.values()), pa.int64()))


def _decode_again(
    contract: Contract,
    mask: Callable[[pa.Table], pa.Table],
    record: SliceRecord,
    messages: pa.Table,
    refused: Counter[str],
) -> Accepted:
    """Decode one object's messages, one per record, and keep those without any reject, masked."""
    records = _as_records(messages)
    decoded = decode_records(contract, records)
    reasons = dict(
        zip(
            decoded.rejects["record_no"].to_pylist()[::-1],  # the first reason of a message wins
            decoded.rejects["reason"].to_pylist()[::-1],
            strict=True,
        )
    )
    refused.update(reasons.values())
    is_good = np.ones(messages.num_rows, bool)
    is_good[list(reasons)] = False
    good = messages.filter(pa.array(is_good))
    rows = mask(decoded.rows).filter(pa.array(is_good[decoded.rows["record_no"].to_numpy()]))
    keys = zip(good["record_no"].to_pylist(), good["line_no"].to_pylist(), strict=True)
    ignored = good.num_rows - len(pc.unique(rows["record_no"]))
    rows = _with_lineage(contract, record, records, messages, rows)
    hashes = hash_rows(rows, contract.key)
    return Accepted(record, tuple(keys), Counter(good["reason"].to_pylist()), ignored, rows, hashes)


def _as_records(messages: pa.Table) -> pa.RecordBatch:
    """Messages as records. Lines of one record share its number, like an aggregated record's."""
    count = messages.num_rows
    columns = [
        messages["raw"].combine_chunks(),
        messages["sequence_number"].combine_chunks(),
        pa.array(np.ones(count, np.int32)),
        pa.nulls(count, pa.string()),
        messages["ts_arrival_ns"].combine_chunks(),
    ]
    return pa.record_batch(columns, schema=RECORD_SCHEMA)


def _with_lineage(
    contract: Contract,
    record: SliceRecord,
    records: pa.RecordBatch,
    messages: pa.Table,
    rows: pa.Table,
) -> pa.Table:
    """Silver rows that say which slice, record and line they came with."""
    line_no = messages["line_no"].combine_chunks().take(rows["record_no"].combine_chunks())
    rows = rows.set_column(rows.column_names.index("line_no"), "line_no", line_no)
    is_late = np.ones(rows.num_rows, bool)
    item = Slice(record.shard, record.prev, records)
    table = silver_rows(contract, item, Distinct(rows, is_late, 0))
    origin = pa.array([record.slice_id] * table.num_rows, pa.string())
    return table.set_column(table.column_names.index("slice_id"), "slice_id", origin)


def _write(
    store: Store, contract: Contract, schema: pa.Schema, landings: Sequence[Landing]
) -> tuple[list[Redriven], list[StagedFile]]:
    """Make the files durable (their names hold their hash: twice is harmless); name what lands."""
    redriven, staged = [], []
    for landing in landings:
        record = landing.accepted.record
        assert record.quarantine is not None
        written = [file.write(store) for file in _files(contract, schema, record, landing.rows)]
        staged += [file for _, file in written]
        redriven.append(
            Redriven(
                quarantine=record.quarantine.path,
                slice_id=record.slice_id,
                messages=len(landing.accepted.keys),
                silver_rows=landing.rows.num_rows,
                duplicates=landing.duplicates,
                ignored=landing.accepted.ignored,
                silver=tuple(reference for reference, _ in written),
                keys=landing.accepted.keys,
            )
        )
    return redriven, staged


def _files(
    contract: Contract, schema: pa.Schema, record: SliceRecord, rows: pa.Table
) -> list[DataFile]:
    assert record.first is not None
    first = record.first
    return build_files(
        rows,
        schema,
        contract.event_time,
        lambda day, digest: SilverKey.of_redrive(record.shard, first, day, digest),
        slice_dictionary(contract),
    )
