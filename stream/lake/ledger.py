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
from dataclasses import dataclass, replace

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
from stream.failpoints import failpoint
from stream.lake.catalog import LakeTable, StagedFile
from stream.lake.closed import ClosedShards
from stream.lake.entries import HEAD, NUMBER, Entry, GapRecord, Head, Kind, Redriven, SliceRecord
from stream.lake.layout import LedgerKey, ledger_number
from stream.lake.store import Store, sha256
from stream.slices import ShardPosition, ShardRef, is_after

MAX_ATTEMPTS = 30
AHEAD = 8
"""Fewer entries than these are read one by one: listing the ledger would cost more."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does: an entry, files to add, addresses of files to take out."""

    entry: Entry
    add: Sequence[StagedFile] = ()
    remove: Sequence[str] = ()


Plan = Callable[["Head"], Change | None]
"""Made anew from the committed state before every attempt; None: nothing is left to do."""


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
        self._closed = ClosedShards(feed, store)
        self._known = Head.of(table.properties).number
        self.conflicts = 0

    def head(self) -> Head:
        """The committed state, fresh from the catalog."""
        if not failpoint("ledger-head"):
            self._table.refresh()
        return Head.of(self._table.properties)

    def closed_positions(self) -> dict[str, ShardPosition]:
        """End positions of shards that left the table property, by `ShardRef` text."""
        return self._closed.read()

    def positions(self, stream: str) -> dict[str, ShardPosition]:
        """Committed position of each shard of one life of a stream, fresh from the catalog."""
        prefix = f"{stream}/"
        head = self.head()  # first: a shard that is closed in between is then in both
        found = {**self._closed.read(stream), **head.positions}
        return {s.removeprefix(prefix): p for s, p in found.items() if s.startswith(prefix)}

    def entries(self, after: int = 0) -> list[Entry]:
        """Every entry that happened with a number above `after`, oldest first.

        Raises: FatalError naming the entry that is missing, changed or out of the chain.
        """
        head = self.head()
        if head.number - after > AHEAD:
            self._prefetch(after)
        try:
            return [entry for _, entry in self._walk_paths(head, after + 1)][::-1]
        finally:
            self._fetched.clear()

    def start(self, positions: Mapping[str, ShardPosition]) -> None:
        """Pin where a first start begins, once: shards that have a position keep it."""
        closed = self._closed.read()

        def plan(head: Head) -> Change | None:
            known = {**closed, **head.positions}
            new = {shard: p for shard, p in positions.items() if shard not in known}
            if not new:
                return None
            return Change(self.entry(head, "start", {**head.positions, **new}))

        self.commit(plan)

    def commit_slices(
        self,
        slices: Sequence[tuple[SliceRecord, Sequence[StagedFile]]],
        gaps: Sequence[GapRecord] = (),
        parents_of: Callable[[ShardRef], tuple[str, ...]] = lambda _: (),
        check_others: Callable[[Sequence[Entry]], None] = lambda _: None,
    ) -> Entry | None:
        """Apply slices, in order per shard; None if all of them were committed before.

        Args: parents_of: the parents of a shard, recorded with its first slice: a replay needs
        them when the stream has forgotten both. check_others: called before the commit with what
        others committed since this ledger was opened or last committed; it may raise.

        Raises: LedgerGapError (a slice is ahead of its shard's position), CommitConflictError
        (another writer cut the shard differently, or won too often), CommitUnknownError.
        """

        def plan(head: Head) -> Change | None:
            others = [entry for _, entry in self._walk_paths(head, self._known + 1)]
            check_others(others[::-1])
            known = self._with_closed(head, [record for record, _ in slices])
            keep, positions = new_slices([record for record, _ in slices], known)
            if not keep and not gaps:
                return None
            positions = {
                s: p for s, p in positions.items() if s in head.positions or p != known.get(s)
            }
            wanted = {id(record) for record in keep}
            files = [f for record, staged in slices if id(record) in wanted for f in staged]
            entry = replace(
                self.entry(head, "slices", positions),
                slices=tuple(keep),
                gaps=tuple(gaps),
                parents=_parents(keep, parents_of),
            )
            return Change(entry, files)

        return self.commit(plan)

    def commit_redrive(
        self,
        plan_redriven: Callable[[Head], tuple[Sequence[Redriven], Sequence[StagedFile]]],
    ) -> Entry | None:
        """Land quarantined messages once: the plan is made anew after every lost race."""

        def plan(head: Head) -> Change | None:
            redriven, files = plan_redriven(head)
            if not redriven:
                return None
            entry = replace(self.entry(head, "redrive"), redriven=tuple(redriven))
            return Change(entry, files)

        return self.commit(plan)

    def close_shards(self, wanted: Callable[[str, ShardPosition], bool]) -> int:
        """Move ended shards' positions out of the table property into objects of their own.

        They are as true as before (`positions` and `commit_slices` look there), but no longer
        travel with every commit. Returns how many were moved.
        """
        found = {s: p for s, p in self.head().positions.items() if p.is_ended and wanted(s, p)}
        for shard, position in found.items():
            self._closed.write(shard, position)  # first: a commit must find it from then on

        def plan(head: Head) -> Change | None:
            left = {s: p for s, p in head.positions.items() if s not in found}
            if len(left) == len(head.positions):
                return None
            return Change(self.entry(head, "close", left))

        self.commit(plan)
        return len(found)

    def entry(
        self, head: Head, kind: Kind, positions: Mapping[str, ShardPosition] | None = None
    ) -> Entry:
        """The next entry after `head`; the positions stay if none are given."""
        after = head.positions if positions is None else positions
        return Entry(self.feed, head.number + 1, head.path, kind, now_ms(self._clock), after)

    def _with_closed(
        self, head: Head, records: Sequence[SliceRecord]
    ) -> Mapping[str, ShardPosition]:
        """The head's positions, and those of closed shards that these slices belong to."""
        strange = {str(r.shard): r.shard for r in records} if records else {}
        missing = [ref for shard, ref in strange.items() if shard not in head.positions]
        closed = {s: p for ref in missing for s, p in self._closed.read(ref.stream).items()}
        return {**closed, **head.positions} if closed else head.positions

    def commit(self, plan: Plan) -> Entry | None:
        """Plan against what is committed, try once; on a lost race again, from fresh state.

        The first plan uses the state that this writer last saw: usually its own last commit, and
        if not, the commit is refused. Reading it again would cost 5 ms each time.
        """
        for attempt in range(MAX_ATTEMPTS):
            planned = self._plan(plan, is_first=attempt == 0)
            if planned is None:
                return None
            if self._try(planned):
                self._known = planned.entry.number
                return planned.entry
            self.conflicts += 1
            self._clock.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
        raise CommitConflictError(
            f"feed {self.feed}: {MAX_ATTEMPTS} commits in a row lost to another writer. "
            "Is maintenance or a second dataflow stuck in a loop? The committed state is intact."
        )

    def _plan(self, plan: Plan, *, is_first: bool) -> Change | None:
        if is_first:
            try:
                return plan(Head.of(self._table.properties))
            except PipelineError:  # may be due to the old state: the fresh one decides
                pass
        return plan(self.head())

    def _try(self, change: Change) -> bool:
        """One attempt. True: it landed. False: another writer was first."""
        entry = change.entry
        data = entry.to_bytes()
        path = LedgerKey(self.feed, entry.number, sha256(data)).path
        self._store.put_once(path, data)  # content-addressed: an existing one is the same
        head = Head(entry.number, path, entry.positions)
        summary = {HEAD: path, NUMBER: str(entry.number)}
        try:
            failpoint("commit-send")
            if change.remove:
                self._table.replace(change.remove, change.add, head.properties(), summary)
            else:
                self._table.append(change.add, head.properties(), summary)
            failpoint("commit-response")
        except CommitConflictError:
            failpoint("commit-refused")
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
        paths = [path for path in listed if (ledger_number(path) or 0) > after]
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


def _parents(
    records: Sequence[SliceRecord], parents_of: Callable[[ShardRef], tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The parents of the shards that begin in this commit and have any."""
    first = {record.shard for record in records if record.prev is None}
    found = {shard: parents_of(shard) for shard in sorted(first)}
    return {
        str(shard): tuple(str(ShardRef(shard.feed, shard.stream, name)) for name in names)
        for shard, names in found.items()
        if names
    }


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


def open_ledger(feed: str, table: LakeTable, store: Store, clock: Clock = SYSTEM_CLOCK) -> Ledger:
    """The ledger of a feed that has been started before. Raises: ConfigError if it has not."""
    if HEAD not in table.properties:
        raise ConfigError(f"feed {feed} has no ledger yet: start it with `headrace run {feed}`.")
    return Ledger(feed, table, store, clock)
