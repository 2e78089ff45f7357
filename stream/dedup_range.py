"""Drop rows whose key is anywhere in Silver, whatever its age: for extracts.

History arrives years after its events, so no horizon may decide: the keys of every UTC day that
a slice touches are read from Silver once, then kept while the run lasts (8 bytes a row). Rows
are marked late: a stream's own dedup does not look at them, the current views resolve whatever
two writers committed at the same moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.dedup import Distinct, KeyWindow, Times
from stream.feeds.contract import Contract
from stream.keyhash import Hashes, hash_rows
from stream.slices import ShardRef

DAY_NS = 86_400_000_000_000


class KeyScan(Protocol):
    """Reads committed keys back (`silver.SilverKeys.scan`)."""

    def scan(
        self, since_ns: int, until_ns: int, is_wanted: Callable[[pa.Table], pa.ChunkedArray]
    ) -> tuple[Hashes, Times]: ...


class NoKeys:
    """A table that does not exist yet holds no key."""

    def scan(
        self,
        since_ns: int,  # noqa: ARG002
        until_ns: int,  # noqa: ARG002
        is_wanted: Callable[[pa.Table], pa.ChunkedArray],  # noqa: ARG002
    ) -> tuple[Hashes, Times]:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)


class RangeDedup:
    """One state for all shards of a run: its parts may repeat each other's items."""

    def __init__(
        self,
        contract: Contract,
        committed: KeyScan,
        is_before: Callable[[pa.Table], pa.ChunkedArray] | None = None,
    ) -> None:
        """`is_before`: which committed rows count; None: all of them."""
        self._contract = contract
        self._committed = committed
        self._is_before = is_before or _all_rows
        self._days: set[int] = set()
        self._window = KeyWindow(0)

    def drop_duplicates(
        self,
        shard: ShardRef,  # noqa: ARG002 - the state is one for all
        first: str | None,  # noqa: ARG002
        newest_arrival_ns: int,  # noqa: ARG002 - no horizon
        rows: pa.Table,
    ) -> Distinct:
        """The slice's new rows, in order; the state then holds them."""
        times = rows[self._contract.event_time].combine_chunks().to_numpy()
        for day in np.unique(times // DAY_NS).tolist():
            self._load(day)
        keep = self._window.add_new(hash_rows(rows, self._contract.key), times)
        kept = rows if keep.all() else rows.filter(pa.array(keep))
        return Distinct(kept, np.ones(kept.num_rows, bool), int(len(keep) - keep.sum()))

    def remember(self, hashes: Hashes, times: Times) -> None:
        """Take in keys that were decided elsewhere."""
        self._window.add_new(hashes, times)

    def forget(self, shard: ShardRef) -> None:
        """A run ended; the next one may repeat its items."""

    def _load(self, day: int) -> None:
        if day not in self._days:
            self._days.add(day)
            start = day * DAY_NS
            self._window.add_new(*self._committed.scan(start, start + DAY_NS, self._is_before))


def _all_rows(rows: pa.Table) -> pa.ChunkedArray:
    return pc.is_valid(rows["slice_id"])
