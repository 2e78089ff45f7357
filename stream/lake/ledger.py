"""The ledger: what was committed, proven by a chain of entries, and the one commit.

Per epoch one entry is written under `ledger/` (slices with counts and hashes, positions per
shard, link to the previous entry), then one Iceberg transaction adds the data files and sets
the table properties with the positions and the ledger's head. That transaction is the only
linearisation point: an entry that no head leads to never happened.

Guarantees: positions never go back; a slice is applied once (at or below its shard's position
it is dropped); a gap is refused; two writers cannot both commit the same slice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import orjson

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import (
    CommitConflictError,
    CommitUnknownError,
    ConfigError,
    FatalError,
    LedgerGapError,
    PipelineError,
    RetryableError,
)
from stream.lake.catalog import LakeTable, StagedFile
from stream.lake.layout import LedgerKey
from stream.lake.store import Store, sha256
from stream.slices import ShardPosition, ShardRef, Start, is_after, slice_id

POSITIONS = "headrace.positions"
HEAD = "headrace.ledger.head"
NUMBER = "headrace.ledger.number"
MAX_ATTEMPTS = 30


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object that a slice wrote."""

    path: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class SliceRecord:
    """What the ledger remembers of a slice: its place, its counts, its objects.

    `messages` = decoded + ignored + rejected messages; `silver_rows` + `duplicates` = decoded
    rows that passed the contract. `bronze` is None for the empty slice that ends a shard.
    """

    shard: ShardRef
    prev: str | None
    first: str | None
    last: str | None
    rows: int
    payload_bytes: int
    arrival_ns: tuple[int, int]
    ends_shard: bool = False
    bronze: ObjectRef | None = None
    silver: tuple[ObjectRef, ...] = ()
    quarantine: ObjectRef | None = None
    messages: int = 0
    silver_rows: int = 0
    duplicates: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    event_ns: tuple[int, int] = (0, 0)

    @property
    def slice_id(self) -> str:
        """The id that Silver and quarantine rows of this slice carry."""
        return slice_id(self.shard, self.first if self.rows else None)


@dataclass(frozen=True, slots=True)
class GapRecord:
    """Records that the source no longer held: named, never silent."""

    shard: ShardRef
    after: str | None
    first_kept: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Redriven:
    """Messages of one quarantine object that a later decoder accepted, and what they became.

    `messages` of them left the quarantine, `ignored` of these as no data; `keys` are their
    (record_no, line_no).
    """

    quarantine: str
    slice_id: str
    messages: int
    silver_rows: int
    duplicates: int
    ignored: int = 0
    silver: tuple[ObjectRef, ...] = ()
    keys: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry."""

    feed: str
    number: int
    previous: str | None
    kind: Literal["start", "slices", "redrive"]
    committed_ms: int
    positions: Mapping[str, ShardPosition]
    slices: tuple[SliceRecord, ...] = ()
    gaps: tuple[GapRecord, ...] = ()
    redriven: tuple[Redriven, ...] = ()

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry:
        """Read an entry back. Raises: ValueError, KeyError or TypeError if it is not one."""
        raw = orjson.loads(data)
        return cls(
            feed=raw["feed"],
            number=raw["number"],
            previous=raw["previous"],
            kind=raw["kind"],
            committed_ms=raw["committed_ms"],
            positions={shard: _position(value) for shard, value in raw["positions"].items()},
            slices=tuple(_slice_record(item) for item in raw["slices"]),
            gaps=tuple(
                GapRecord(**{**item, "shard": ShardRef(**item["shard"])}) for item in raw["gaps"]
            ),
            redriven=tuple(_redriven(item) for item in raw["redriven"]),
        )


@dataclass(frozen=True, slots=True)
class Head:
    """The committed state of a feed: the last entry's number and path, and every position."""

    number: int
    path: str | None
    positions: Mapping[str, ShardPosition]

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> Head:
        """Read it from a table's properties; number 0 if nothing was ever committed."""
        raw = orjson.loads(properties.get(POSITIONS, "{}"))
        positions = {shard: _position(value) for shard, value in raw.items()}
        return cls(int(properties.get(NUMBER, "0")), properties.get(HEAD), positions)

    def properties(self) -> dict[str, str]:
        """As table properties."""
        raw = {shard: asdict(position) for shard, position in self.positions.items()}
        return {
            POSITIONS: orjson.dumps(raw, option=orjson.OPT_SORT_KEYS).decode(),
            HEAD: self.path or "",
            NUMBER: str(self.number),
        }


class Ledger:
    """One feed's ledger: read it, and commit to it."""

    def __init__(
        self, feed: str, table: LakeTable, store: Store, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.feed = feed
        self._table = table
        self._store = store
        self._clock = clock
        self._fetched: dict[str, bytes] = {}
        self.conflicts = 0

    def head(self) -> Head:
        """The committed state, fresh from the catalog."""
        self._table.refresh()
        return Head.of(self._table.properties)

    def positions(self, stream: str) -> dict[str, ShardPosition]:
        """Committed position of each shard of one life of a stream, fresh from the catalog."""
        prefix = f"{stream}/"
        found = self.head().positions
        return {s.removeprefix(prefix): p for s, p in found.items() if s.startswith(prefix)}

    def entries(self, after: int = 0) -> list[Entry]:
        """Every entry that happened with a number above `after`, oldest first.

        Raises: FatalError naming the entry that is missing, changed or out of the chain.
        """
        head = self.head()
        self._prefetch(after)
        try:
            return [entry for _, entry in self._walk_paths(head, after + 1)][::-1]
        finally:
            self._fetched.clear()

    def start(self, positions: Mapping[str, ShardPosition]) -> None:
        """Pin where a first start begins, once: shards that have a position keep it."""

        def plan(head: Head) -> tuple[Entry, list[StagedFile]] | None:
            new = {shard: p for shard, p in positions.items() if shard not in head.positions}
            if not new:
                return None
            return self._entry(head, "start", {**head.positions, **new}), []

        self._commit(plan)

    def commit_slices(
        self,
        slices: Sequence[tuple[SliceRecord, Sequence[StagedFile]]],
        gaps: Sequence[GapRecord] = (),
    ) -> Entry | None:
        """Apply slices, in order per shard; None if all of them were committed before.

        Raises: LedgerGapError (a slice is ahead of its shard's position), CommitConflictError
        (another writer cut the shard differently, or won too often), CommitUnknownError.
        """

        def plan(head: Head) -> tuple[Entry, list[StagedFile]] | None:
            keep, positions = new_slices([record for record, _ in slices], head.positions)
            if not keep and not gaps:
                return None
            wanted = {id(record) for record in keep}
            files = [f for record, staged in slices if id(record) in wanted for f in staged]
            entry = self._entry(head, "slices", positions)
            return replace(entry, slices=tuple(keep), gaps=tuple(gaps)), files

        return self._commit(plan)

    def commit_redrive(
        self,
        plan_redriven: Callable[[Head], tuple[Sequence[Redriven], Sequence[StagedFile]]],
    ) -> Entry | None:
        """Land quarantined messages once: the plan is made anew after every lost race."""

        def plan(head: Head) -> tuple[Entry, list[StagedFile]] | None:
            redriven, files = plan_redriven(head)
            if not redriven:
                return None
            entry = self._entry(head, "redrive", head.positions)
            return replace(entry, redriven=tuple(redriven)), list(files)

        return self._commit(plan)

    def _entry(
        self,
        head: Head,
        kind: Literal["start", "slices", "redrive"],
        positions: Mapping[str, ShardPosition],
    ) -> Entry:
        return Entry(self.feed, head.number + 1, head.path, kind, now_ms(self._clock), positions)

    def _commit(
        self, plan: Callable[[Head], tuple[Entry, list[StagedFile]] | None]
    ) -> Entry | None:
        """Plan against what is committed, try once; on a lost race again, from fresh state.

        The first plan uses the state that this writer last saw: usually its own last commit, and
        if not, the commit is refused. Reading it again would cost 5 ms each time.
        """
        for attempt in range(MAX_ATTEMPTS):
            planned = self._plan(plan, is_first=attempt == 0)
            if planned is None:
                return None
            entry, files = planned
            if self._try(entry, files):
                return entry
            self.conflicts += 1
            self._clock.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
        raise CommitConflictError(
            f"feed {self.feed}: {MAX_ATTEMPTS} commits in a row lost to another writer. "
            "Is maintenance or a second dataflow stuck in a loop? The committed state is intact."
        )

    def _plan(
        self, plan: Callable[[Head], tuple[Entry, list[StagedFile]] | None], *, is_first: bool
    ) -> tuple[Entry, list[StagedFile]] | None:
        if is_first:
            try:
                return plan(Head.of(self._table.properties))
            except PipelineError:  # may be due to the old state: the fresh one decides
                pass
        return plan(self.head())

    def _try(self, entry: Entry, files: list[StagedFile]) -> bool:
        """One attempt. True: it landed. False: another writer was first."""
        data = entry.to_bytes()
        path = LedgerKey(self.feed, entry.number, sha256(data)).path
        self._store.put_once(path, data)  # content-addressed: an existing one is the same
        head = Head(entry.number, path, entry.positions)
        summary = {HEAD: path, NUMBER: str(entry.number)}
        try:
            self._table.append(files, head.properties(), summary)
        except CommitConflictError:
            return False
        except RetryableError as error:
            return self._landed(path, entry.number, error)
        return True

    def _landed(self, path: str, number: int, cause: Exception) -> bool:
        """Read back after an ambiguous failure; data files are never deleted on a guess."""
        for attempt in range(6):
            try:
                head = self.head()
            except RetryableError:
                self._clock.sleep(0.2 * 2**attempt)
                continue
            if head.number < number:
                return False
            return any(path == found for found, _ in self._walk_paths(head, number))
        raise CommitUnknownError(
            f"feed {self.feed}: commit {path} was sent, then the catalog did not answer: {cause}. "
            "Do not delete anything; a restart reads the committed positions and goes on."
        ) from cause

    def _walk_paths(self, head: Head, down_to: int = 1) -> Iterator[tuple[str, Entry]]:
        path, number = head.path or None, head.number
        while path and number >= down_to:
            entry = self._read(path)
            if entry.number != number:
                raise FatalError(
                    f"ledger entry {path} has number {entry.number}, expected {number}: the chain "
                    "was edited. Compare with the table's snapshot summaries before any write."
                )
            yield path, entry
            path, number = entry.previous or None, number - 1

    def _prefetch(self, after: int) -> None:
        """Read entries in parallel: a chain followed one by one costs a round trip per entry."""
        listed = (info.path for info in self._store.list(LedgerKey.prefix(self.feed)))
        paths = [path for path in listed if LedgerKey.parse(path).number > after]
        for path, data in zip(paths, self._store.get_many(paths), strict=True):
            if data is not None:
                self._fetched[path] = data

    def _read(self, path: str) -> Entry:
        data = self._fetched.get(path) or self._store.get(path)
        if data is None:
            raise FatalError(
                f"ledger entry {path} is missing although the table's head leads to it. Restore "
                "the object (bucket versioning keeps it); nothing can be proven without it."
            )
        if LedgerKey.parse(path).digest != sha256(data)[:16]:
            raise FatalError(
                f"ledger entry {path} was changed: its sha256 is {sha256(data)[:16]}. Restore the "
                "version that its name promises."
            )
        return Entry.from_bytes(data)


def new_slices(
    slices: Sequence[SliceRecord], positions: Mapping[str, ShardPosition]
) -> tuple[list[SliceRecord], dict[str, ShardPosition]]:
    """The slices that are not committed yet, and the positions after applying them. Pure.

    Raises: LedgerGapError, CommitConflictError (see `Ledger.commit_slices`).
    """
    after = dict(positions)
    keep = []
    for record in slices:
        shard = str(record.shard)
        position = after.get(shard, ShardPosition(None))
        if position.is_ended or (
            not record.ends_shard and not is_after(record.last, position.sequence_number)
        ):
            continue
        if record.prev != position.sequence_number:
            raise _misfit(record, position)
        after[shard] = ShardPosition(
            sequence_number=record.last,
            is_ended=record.ends_shard,
            start=position.start,
            arrival_ms=max(position.arrival_ms, record.arrival_ns[1] // 1_000_000),
        )
        keep.append(record)
    return keep, after


def _misfit(record: SliceRecord, position: ShardPosition) -> PipelineError:
    where = f"{record.shard}: slice {record.first}..{record.last} begins after {record.prev}"
    if is_after(record.prev, position.sequence_number):
        return LedgerGapError(
            f"{where}, but the committed position is {position.sequence_number}: records between "
            "would be lost. Restart the feed: it resumes from the committed position."
        )
    return CommitConflictError(
        f"{where}, but another dataflow has committed up to {position.sequence_number} with other "
        "slice ends. Nothing is lost: restart to adopt them."
    )


def _position(raw: Mapping[str, Any]) -> ShardPosition:
    start = raw.get("start")
    return ShardPosition(
        raw["sequence_number"],
        raw["is_ended"],
        Start(**start) if start else None,
        raw["arrival_ms"],
    )


def _object(raw: Mapping[str, Any] | None) -> ObjectRef | None:
    return ObjectRef(**raw) if raw else None


def _slice_record(raw: dict[str, Any]) -> SliceRecord:
    return SliceRecord(
        **{
            **raw,
            "shard": ShardRef(**raw["shard"]),
            "arrival_ns": tuple(raw["arrival_ns"]),
            "event_ns": tuple(raw["event_ns"]),
            "bronze": _object(raw["bronze"]),
            "quarantine": _object(raw["quarantine"]),
            "silver": tuple(ObjectRef(**item) for item in raw["silver"]),
        }
    )


def _redriven(raw: dict[str, Any]) -> Redriven:
    return Redriven(
        **{
            **raw,
            "silver": tuple(ObjectRef(**item) for item in raw["silver"]),
            "keys": tuple((a, b) for a, b in raw["keys"]),
        }
    )


def open_ledger(feed: str, table: LakeTable, store: Store, clock: Clock = SYSTEM_CLOCK) -> Ledger:
    """The ledger of a feed that has been started before. Raises: ConfigError if it has not."""
    if HEAD not in table.properties:
        raise ConfigError(f"feed {feed} has no ledger yet: start it with `headrace run {feed}`.")
    return Ledger(feed, table, store, clock)
