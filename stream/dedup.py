"""Drop rows whose key was seen before, per shard, within the dedup horizon.

A redelivered fact carries the same key and the same event time, so the state is one set of
64-bit key hashes per minute of event time: only touched minutes are searched, old ones are
dropped whole. A row older than the horizon (event time before the slice's arrival minus
`dedup_minutes`) is kept and marked late: the current views of Silver resolve it.

Guarantee: the decision is a pure function of the slice and of the shard's committed rows before
it, so a restart drops exactly the same rows. State is never stored: at a shard's first slice
it is read back from Silver (`CommittedKeys`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stream.feeds.contract import Contract
from stream.keyhash import Hashes, KeySet, hash_rows
from stream.ordering import stable_order
from stream.slices import ShardRef

MINUTE_NS = 60_000_000_000
Times = npt.NDArray[np.int64]


def horizon_ns(dedup_minutes: int, future_tolerance_ms: int = 60_000) -> int:
    """How long after a slice's arrival another slice may still meet its keys, at the most: the
    horizon is a whole minute, and an event may lie after its arrival.
    """
    return (dedup_minutes + 1) * MINUTE_NS + future_tolerance_ms * 1_000_000


@dataclass(frozen=True, slots=True)
class Distinct:
    """Rows that are new, whether each is late, and how many duplicates were dropped."""

    rows: pa.Table
    is_late: npt.NDArray[np.bool_]
    duplicates: int


class CommittedKeys(Protocol):
    """Reads back what is committed (`silver.SilverKeys`)."""

    def read(self, shard: ShardRef, before: str | None, since_ns: int) -> tuple[Hashes, Times]:
        """Key hashes and event times of committed rows of the shard (sequence numbers below
        `before`) and of its ancestors (all), with event time >= `since_ns`.
        """
        ...


class RowFilter(Protocol):
    """Which rows of a slice are new: `Dedup` within a shard's horizon, `RangeDedup` anywhere."""

    def drop_duplicates(
        self, shard: ShardRef, first: str | None, newest_arrival_ns: int, rows: pa.Table
    ) -> Distinct: ...

    def forget(self, shard: ShardRef) -> None: ...


class Dedup:
    """The dedup state of one feed in one process: a window of key hashes per shard."""

    def __init__(self, contract: Contract, committed: CommittedKeys) -> None:
        self._contract = contract
        self._committed = committed
        self._shards: dict[ShardRef, KeyWindow] = {}

    def drop_duplicates(
        self, shard: ShardRef, first: str | None, newest_arrival_ns: int, rows: pa.Table
    ) -> Distinct:
        """The slice's new rows, in order; the state then holds them.

        Args: first: the slice's first sequence number. newest_arrival_ns: its latest arrival,
        which places the horizon.
        """
        since = self._horizon_ns(newest_arrival_ns)
        window = self._shards.get(shard)
        if window is None or since < window.since_ns:
            window = self._load(shard, first, since, window)
        times = rows[self._contract.event_time].combine_chunks().to_numpy()
        hashes = hash_rows(rows, self._contract.key)
        is_late = times < since
        keep = window.add_new(hashes, times, ~is_late)
        window.forget_before(since - 5 * MINUTE_NS)  # slack: arrival times may step back
        kept = rows if keep.all() else rows.filter(pa.array(keep))
        return Distinct(kept, is_late[keep], int(len(keep) - keep.sum()))

    def remember(self, shard: ShardRef, hashes: Hashes, times: Times) -> None:
        """Take in keys that were decided elsewhere; the shard's window must be there."""
        self._shards[shard].add_new(hashes, times)

    @property
    def windows(self) -> Mapping[ShardRef, KeyWindow]:
        """What is remembered, by shard."""
        return self._shards

    def forget(self, shard: ShardRef) -> None:
        """The shard is ended: its children read the state back from Silver."""
        self._shards.pop(shard, None)

    def _horizon_ns(self, newest_arrival_ns: int) -> int:
        return newest_arrival_ns // MINUTE_NS * MINUTE_NS - self._contract.dedup_minutes * MINUTE_NS

    def _load(
        self, shard: ShardRef, first: str | None, since_ns: int, known: KeyWindow | None
    ) -> KeyWindow:
        window = KeyWindow(since_ns)
        window.add_new(*self._committed.read(shard, first, since_ns))
        if known is not None:
            window.merge(known)
        self._shards[shard] = window
        return window


class KeyWindow:
    """Key hashes per minute of event time, from `since_ns` on."""

    def __init__(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self._minutes: dict[int, KeySet] = {}
        self._newest = -1

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._minutes.values())

    def add_new(
        self, hashes: Hashes, times: Times, remember: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Mask of rows that are first of their key; those to `remember` join the state.

        Args: remember: the same for all rows of a minute; None: all.
        """
        keep = np.zeros(len(hashes), dtype=bool)
        for minute, rows in _by_minute(times // MINUTE_NS):
            if remember is None or remember[rows[0]]:
                keys = self._minutes.get(minute)
                if keys is None:
                    keys = self._minutes[minute] = self._open(minute)
            else:
                keys = KeySet()
            keep[rows] = keys.add(hashes[rows])
        return keep

    def forget_before(self, since_ns: int) -> None:
        """Drop whole minutes that no later slice may look at."""
        if since_ns <= self.since_ns:
            return
        self.since_ns = since_ns
        for minute in [m for m in self._minutes if m < since_ns // MINUTE_NS]:
            del self._minutes[minute]

    def contents(self) -> tuple[Hashes, Times]:
        """All keys, and the start of the minute that each belongs to."""
        minutes = np.repeat(list(self._minutes), [len(keys) for keys in self._minutes.values()])
        hashes = [np.zeros(0, np.uint64), *(keys.contents() for keys in self._minutes.values())]
        return np.concatenate(hashes), minutes.astype(np.int64) * MINUTE_NS

    def merge(self, other: KeyWindow) -> None:
        """Take in another window's keys."""
        for minute, keys in other._minutes.items():
            mine = self._minutes.setdefault(minute, KeySet())
            mine.add(keys.contents())

    def _open(self, minute: int) -> KeySet:
        """A new minute; to those before it only stragglers will come."""
        if minute > self._newest:
            self._newest = minute
            for other, keys in self._minutes.items():
                if other < minute:
                    keys.freeze()
        return KeySet()


def _by_minute(minutes: Times) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Each minute and its rows, in message order."""
    if not len(minutes):
        return
    if (minutes == minutes[0]).all():
        yield int(minutes[0]), np.arange(len(minutes))
        return
    order = stable_order(minutes)
    ends = np.flatnonzero(np.diff(minutes[order])) + 1
    for rows in np.split(order, ends):
        yield int(minutes[rows[0]]), rows
