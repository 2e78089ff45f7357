"""Decide duplicates in a replay as they were decided live: from what was committed before.

Live, a slice was compared with its shard's committed rows and its ancestors'. In a replay the
table also holds what came later, and the old rows of the very slices that are replayed: neither
counts. What the replay itself has made of a parent shard is taken from memory. A slice of an
extract was compared with the whole table: it sees the rows of other shards as they are in the
table, also of slices that the same replay changes; a second replay settles those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.dedup import Dedup, Distinct, Times
from stream.dedup_range import RangeDedup
from stream.feeds.contract import Contract
from stream.keyhash import Hashes, hash_rows, is_among
from stream.lake.catalog import LakeTable
from stream.lake.entries import Entry
from stream.lake.history import SliceState
from stream.lake.store import Store
from stream.silver import SilverKeys
from stream.slices import ShardRef, slice_id
from stream.sources.extract_lanes import STREAM_PREFIX

KeysAtTimes = tuple[Hashes, Times]
"""Key hashes and event times of rows."""


class ReplayDedup:
    """`RowFilter` of a replay. Slices must come in the order of their commits."""

    def __init__(
        self,
        contract: Contract,
        table: LakeTable,
        store: Store,
        history: Mapping[str, SliceState],
        parents: Mapping[str, tuple[str, ...]],
    ) -> None:
        """`parents`: shard -> parents, as `ShardRef` texts."""
        self._contract = contract
        self._parents = parents
        self._ids = list(history)
        self._order = {name: number for number, name in enumerate(self._ids)}
        self._replayed: set[str] = set()
        self._kept: Mapping[str, KeysAtTimes] = {}
        self._tail: frozenset[str] = frozenset()
        self._changed_keys: Hashes = np.zeros(0, np.uint64)
        self.involved: set[str] = set()
        self._current = 0
        self._own_extract: str | None = None
        self._value_set = pa.array(self._ids, pa.string())
        self._keys = SilverKeys(
            contract,
            table,
            store,
            self._ancestors,
            is_visible=self._is_visible,
            may_hold=self._may_hold,
        )
        self._owner = {i.path: name for name, state in history.items() for i in state.silver}
        self._live = Dedup(contract, self)
        self._extracts: dict[ShardRef, RangeDedup] = {}

    def extend(
        self,
        replayed: Iterable[str],
        history: Mapping[str, SliceState],
        *,
        kept: Mapping[str, KeysAtTimes],
        changed_keys: Hashes | None = None,
    ) -> None:
        """More slices will be replayed; slices may have been committed since.

        Args: kept: keys in Silver of slices whose rows stay there whatever comes out.
        changed_keys: these slices follow the range: one that holds none of these keys is left as
        it is, and its kept keys count; the others become `involved`.
        """
        self._kept = kept
        self._tail = frozenset() if changed_keys is None else frozenset(replayed)
        if changed_keys is None:
            self._replayed.update(set(replayed) - kept.keys())
        else:
            self._changed_keys = changed_keys
        new = [name for name in history if name not in self._order]
        self._order.update({name: len(self._ids) + n for n, name in enumerate(new)})
        self._ids += new
        self._value_set = pa.array(self._ids, pa.string())

    def drop_duplicates(
        self, shard: ShardRef, first: str | None, newest_arrival_ns: int, rows: pa.Table
    ) -> Distinct:
        """See `dedup.RowFilter`."""
        name = slice_id(shard, first)
        self._current = self._order[name]
        is_extract = shard.stream.startswith(STREAM_PREFIX)
        self._own_extract = f"{shard}/" if is_extract else None
        is_left = name in self._tail and not self._is_involved(name, rows)
        wanted = rows.slice(0, 0) if is_left else rows  # what comes out is not looked at
        if is_extract:
            dedup = self._extracts.setdefault(shard, RangeDedup(self._contract, self._keys))
            found = dedup.drop_duplicates(shard, first, newest_arrival_ns, wanted)
        else:
            found = self._live.drop_duplicates(shard, first, newest_arrival_ns, wanted)
        if name in self._kept and name not in self.involved:
            if is_extract:
                dedup.remember(*self._kept[name])
            else:
                self._live.remember(shard, *self._kept[name])
        return found

    def _is_involved(self, name: str, rows: pa.Table) -> bool:
        """Whether a slice after the range holds a key that the replay added or took away."""
        if is_among(hash_rows(rows, self._contract.key), self._changed_keys).any():
            self.involved.add(name)
            self._replayed.add(name)
        return name in self.involved

    def forget(self, shard: ShardRef) -> None:
        """Nothing: children may ask for their parents' keys until the replay ends."""

    def read(self, shard: ShardRef, before: str | None, since_ns: int) -> tuple[Hashes, Times]:
        """See `dedup.CommittedKeys`: committed rows, and what this replay made of ancestors and
        of earlier lives of the stream.
        """
        hashes, times = self._keys.read(shard, before, since_ns)
        ancestors, life = self._ancestors(shard), life_of(shard.stream)
        windows = [
            window.contents()
            for ref, window in self._live.windows.items()
            if (ref.stream == shard.stream and ref.shard in ancestors)
            or (ref.stream != shard.stream and life_of(ref.stream) == life)
        ]
        return (
            np.concatenate([hashes, *(h for h, _ in windows)]),
            np.concatenate([times, *(t for _, t in windows)]),
        )

    def _may_hold(self, path: str) -> bool:
        """Whether a file can hold a visible row: a slice's own file holds that slice alone."""
        owner = self._owner.get(path)
        if owner is None:
            return True
        is_replayed = self._own_extract is None and owner in self._replayed
        return self._order[owner] < self._current and not is_replayed

    def _is_visible(self, rows: pa.Table) -> pa.ChunkedArray:
        """Rows of slices that were committed before the current one and are not replayed."""
        at = pc.fill_null(pc.index_in(rows["slice_id"], value_set=self._value_set), len(self._ids))
        replayed = pa.array(sorted(self._replayed), pa.string())
        is_replayed = pc.is_in(rows["slice_id"], replayed)
        if self._own_extract is not None:  # of other shards it sees the rows as they are
            is_own = pc.starts_with(rows["slice_id"], self._own_extract)
            is_replayed = pc.and_(is_replayed, is_own)
        return pc.and_not(pc.less(at, self._current), is_replayed)

    def _ancestors(self, shard: ShardRef) -> frozenset[str]:
        found: set[str] = set()
        waiting = list(self._parents.get(str(shard), ()))
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self._parents.get(name, ()))
        return frozenset(name.rpartition("/")[2] for name in found)


def life_of(stream: str) -> str:
    """The name of a stream, whichever of its lives this is."""
    return stream.rpartition(".")[0]


def parents_in(entries: Iterable[Entry]) -> dict[str, tuple[str, ...]]:
    """The parents of every shard, as the ledger recorded them."""
    return {shard: names for entry in entries for shard, names in entry.parents.items()}
