"""Choose which slices a replay looks at: those of the range, then those that follow a change.

Per shard the range is closed: whatever lies between its first and its last slice is replayed,
too. A change may alter what later slices of the shard and of its children dropped as duplicates,
so those that arrived within the dedup horizon after a changed one are looked at, and so on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from batch.replay.dedup import life_of, parents_in
from stream.clock import to_utc
from stream.dedup import horizon_ns
from stream.errors import CommitConflictError, ConfigError
from stream.feeds.contract import Contract
from stream.lake.entries import Entry
from stream.lake.history import SliceState, current_slices
from stream.sources.extract_lanes import STREAM_PREFIX


class Choice:
    """Slices to look at, in the order of their commits; each is given out once."""

    def __init__(self, contract: Contract, entries: Sequence[Entry]) -> None:
        self._feed = contract.feed
        self._horizon_ns = horizon_ns(contract.dedup_minutes, contract.future_tolerance_ms)
        self.history: dict[str, SliceState] = current_slices(entries)
        self.number = entries[-1].number if entries else 0
        self.notes: list[str] = []
        self.parents = parents_in(entries)
        self._ready: dict[str, SliceState] = {}
        self._given: set[str] = set()
        self._until_ns = 0
        self._ends: dict[str, int] = {}
        self._changed_runs: set[str] = set()

    def choose(self, from_ms: int, to_ms: int) -> None:
        """Choose the slices whose arrivals intersect [from_ms, to_ms).

        Raises: ConfigError when there is none, saying what the ledger covers.
        """
        low, high = from_ms * 1_000_000, to_ms * 1_000_000
        ends: dict[str, tuple[int, int]] = {}
        for at, state in enumerate(self.history.values()):
            record = state.record
            if record.rows and record.arrival_ns[1] >= low and record.arrival_ns[0] < high:
                first, _ = ends.get(str(record.shard), (at, at))
                ends[str(record.shard)] = (first, at)
        if not ends:
            raise ConfigError(f"feed {self._feed}: {self._why_none(from_ms, to_ms)}")
        for at, state in enumerate(self.history.values()):
            first, last = ends.get(str(state.record.shard), (1, 0))
            if first <= at <= last:
                self._add(state)
        self._ends = {shard: last for shard, (_, last) in ends.items()}

    def take(self) -> list[SliceState]:
        """The slices to look at next; empty when there is none."""
        found = list(self._ready.values())
        self._given |= self._ready.keys()
        self._ready = {}
        return found

    def has_more(self) -> bool:
        """Whether `take` would give any."""
        return bool(self._ready)

    def extend_after(self, changed: Collection[str]) -> None:
        """Slices of the dedup horizon after changed ones must be looked at, too."""
        records = [self.history[name].record for name in changed]
        if records:
            newest = max(record.arrival_ns[1] for record in records)
            self._until_ns = max(self._until_ns, newest + self._horizon_ns)
        runs = [r.shard for r in records if r.shard.stream.startswith(STREAM_PREFIX)]
        self._changed_runs |= {str(shard) for shard in runs}  # their dedup knows no horizon
        for at, state in enumerate(self.history.values()):
            record, shard = state.record, str(state.record.shard)
            is_near = record.arrival_ns[0] <= self._until_ns or shard in self._changed_runs
            if is_near and record.slice_id not in self._given and self._follows(shard, at):
                self._add(state)

    def update(self, entries: Sequence[Entry]) -> None:
        """Take in what was committed meanwhile; `has_more` says whether it must be looked at."""
        self.history = current_slices(entries, self.history)
        self.number = entries[-1].number if entries else self.number
        self.parents |= parents_in(entries)
        self.extend_after(())

    def check_unchanged(self, states: Iterable[SliceState]) -> None:
        """Slices that are about to be replaced are as they were when they were compared.

        Raises: CommitConflictError when a redrive, replay or retention changed one.
        """
        if any(self.history[s.record.slice_id] != s for s in states):
            raise CommitConflictError(
                f"feed {self._feed}: another job changed the same slices while this replay ran. "
                "Nothing was replaced; run it again."
            )

    def _follows(self, shard: str, at: int) -> bool:
        """Whether a slice comes after chosen ones of its shard, of an ancestor, or of an earlier
        life of its stream.
        """
        if shard in self._ends:
            return at > self._ends[shard]
        stream = shard.rpartition("/")[0]
        return any(self._follows(parent, at) for parent in self.parents.get(shard, ())) or any(
            at > last
            for other, last in self._ends.items()
            if (life := other.rpartition("/")[0]) != stream and life_of(life) == life_of(stream)
        )

    def _add(self, state: SliceState) -> None:
        """Slices of which retention dropped rows are processed, for their keys, but not replaced:
        that would bring the rows back.
        """
        if not state.record.rows:
            return
        if state.dropped:
            self.notes.append(
                f"{state.record.slice_id} is left as it is: retention dropped {state.dropped} of "
                "its rows (`--into` shows all of them)"
            )
        self._ready[state.record.slice_id] = state

    def _why_none(self, from_ms: int, to_ms: int) -> str:
        wanted = f"nothing arrived from {_iso(from_ms)} to {_iso(to_ms)}"
        covered = _covered(self.history)
        if covered is None:
            return f"{wanted}; the ledger holds no slice yet"
        low, high = covered
        return f"{wanted}; the ledger holds arrivals from {_iso(low)} to {_iso(high)}"


def _covered(history: Mapping[str, SliceState]) -> tuple[int, int] | None:
    spans = [s.record.arrival_ns for s in history.values() if s.record.rows]
    if not spans:
        return None
    return min(low for low, _ in spans) // 1_000_000, max(high for _, high in spans) // 1_000_000


def _iso(timestamp_ms: int) -> str:
    return to_utc(timestamp_ms * 1_000_000).isoformat(timespec="milliseconds")
