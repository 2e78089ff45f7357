"""Mistakes to plant in the road: each must break an invariant within a few hundred seeds.

Every one is a line that somebody could write. A mutant that no seed catches says that the
simulation does not look where it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import memory_tables
import pytest

from stream import flow
from stream.bronze import BronzeSeals, bronze_bytes, bronze_key
from stream.dedup import Dedup, KeyWindow
from stream.errors import RetryableError
from stream.lake import ledger
from stream.lake.entries import ObjectRef
from stream.lake.newest import NewestRead
from stream.lake.store import sha256
from stream.slices import Start
from stream.sources import lanes
from stream.sources.fetcher import ShardFetcher

Plant = Callable[[pytest.MonkeyPatch], None]


def checkpoint_before_put(patch: pytest.MonkeyPatch) -> None:
    """A failed Bronze PUT is left for later, the position moves on."""

    def write(store: Any, item: Any) -> ObjectRef:
        data = bronze_bytes(item.records)
        with suppress(RetryableError):
            store.put_once(bronze_key(item).path, data)
        return ObjectRef(bronze_key(item).path, sha256(data), len(data), item.rows)

    patch.setattr(flow, "write_bronze", write)


def bronze_overwritten(patch: pytest.MonkeyPatch) -> None:
    """Bronze is written with a plain PUT."""

    def write(store: Any, item: Any) -> ObjectRef:
        data = bronze_bytes(item.records)
        store.put(bronze_key(item).path, data)
        return ObjectRef(bronze_key(item).path, sha256(data), len(data), item.rows)

    patch.setattr(flow, "write_bronze", write)


def dedup_starts_empty(patch: pytest.MonkeyPatch) -> None:
    """The dedup state is not read back after a restart."""

    def load(self: Dedup, shard: Any, first: Any, since_ns: int, known: Any) -> KeyWindow:
        self._shards[shard] = known or KeyWindow(since_ns)
        return self._shards[shard]

    patch.setattr(Dedup, "_load", load)


def dedup_forgets_ancestors(patch: pytest.MonkeyPatch) -> None:
    """A child does not know what its parents held."""
    patch.setattr(lanes.Lanes, "ancestors_of", lambda self, shard: frozenset())


def position_moves_at_failure(patch: pytest.MonkeyPatch) -> None:
    """A slice that cannot be stored is skipped, the next ones are linked to the one before."""
    process = flow.Road.process

    def skip(self: Any, slices: Any) -> Any:
        results: list[Any] = []
        for item in slices:
            try:
                results += process(self, [item])
            except RetryableError:
                empty = replace(flow._record(item), rows=0)
                results.append(flow.SliceResult(empty))
        return results

    patch.setattr(flow.Road, "process", skip)


def slices_applied_twice(patch: pytest.MonkeyPatch) -> None:
    """What another instance has committed is committed again."""
    real = ledger.new_slices

    def keep_all(slices: Any, positions: Any) -> Any:
        keep, after = real([], positions)
        for record in slices:
            shard = str(record.shard)
            old = after.get(shard, ledger.ShardPosition(None))
            after[shard] = replace(old, sequence_number=record.last, is_ended=record.ends_shard)
            keep.append(record)
        return keep, after

    patch.setattr(ledger, "new_slices", keep_all)


def commit_without_compare(patch: pytest.MonkeyPatch) -> None:
    """The catalog takes a commit that is based on an old state."""

    def swap(self: Any, after: Any, new: Any) -> None:
        self.versions.append(replace(new, number=self.versions[-1].number + 1))
        self._on_commit(self.versions[-1])

    patch.setattr(memory_tables.HeldTable, "swap", swap)


def cuts_not_adopted(patch: pytest.MonkeyPatch) -> None:
    """A restart cuts slices anew, whatever Bronze holds."""
    patch.setattr(BronzeSeals, "find", lambda self, *which: None)


def child_opened_early(patch: pytest.MonkeyPatch) -> None:
    """A child is read while its parents are not applied to their end."""
    patch.setattr(lanes, "is_blocked", lambda *which: False)


def reopened_at_the_tip(patch: pytest.MonkeyPatch) -> None:
    """An expired cursor is opened again at LATEST."""
    opened = ShardFetcher._open

    def reopen(self: Any) -> float:
        if self._slicer.seen is None or self._cursor is None:
            return opened(self)
        self._cursor = self._reader.open_shard(self.shard.shard, Start("LATEST"))
        return float(self._go_on(self._take_turn))

    patch.setattr(ShardFetcher, "_open", reopen)


def loss_not_named(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks what retention removed."""
    patch.setattr(ShardFetcher, "_find_gap", lambda self, records, retention_ms: None)


def stale_catalog_believed(patch: pytest.MonkeyPatch) -> None:
    """An older answer than this process has read is used."""
    patch.setattr(NewestRead, "read", lambda self, name, read: read() and None)


MUTANTS: Mapping[str, Plant] = {
    plant.__name__: plant
    for plant in (
        checkpoint_before_put,
        bronze_overwritten,
        dedup_starts_empty,
        dedup_forgets_ancestors,
        position_moves_at_failure,
        slices_applied_twice,
        commit_without_compare,
        cuts_not_adopted,
        child_opened_early,
        reopened_at_the_tip,
        loss_not_named,
        stale_catalog_believed,
    )
}
