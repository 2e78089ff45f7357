"""Replay extracts as streams: a finished run is one shard, its parts are slices in order.

    manifest ─▶ part 1: records 1_000000001, 1_000000002 ... ─▶ slices ─▶ end of the shard
             └▶ part 2: records 2_000000001 ...              ─▶ slices

Sequence numbers are a function of part and row, so a restart resumes behind the committed slice;
a record arrived when its part was received. One shard per run and not per part: an API's run has a
part per symbol, and a position each would travel with every commit. A slice never spans parts: its
Bronze object is the part itself. Not here: fetching (`batch.extracts`), formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from stream.errors import ConfigError
from stream.lake.entries import ObjectRef
from stream.lake.store import Store, sha256
from stream.slices import (
    RECORD_SCHEMA,
    ShardPosition,
    ShardRef,
    Slice,
    Slicer,
    SliceRule,
    empty_records,
)
from stream.sources.extract import Manifest, read_part
from stream.sources.extract_formats import payloads_of

PART_STEP = 1_000_000_000
"""Sequence number = number of the part (from 1) x this + number of the record in it (from 1)."""
STREAM_PREFIX = "extract-"


def shard_of(manifest: Manifest) -> ShardRef:
    """The shard that a run is."""
    if manifest.feed is None:
        raise ConfigError(
            f"extract {manifest.run_id} ({manifest.source} {manifest.dataset}) belongs to no feed: "
            "it stays in Bronze and cannot be replayed into a table"
        )
    digest = sha256(manifest.run_id.encode())[:8]
    stream = f"{STREAM_PREFIX}{manifest.source}.{digest}"
    return ShardRef(manifest.feed, stream, manifest.run_id)


def part_records(payloads: pa.Array, part: int, received_ms: int) -> pa.RecordBatch:
    """A part's items as records. `part` counts from 1."""
    count = len(payloads)
    if count >= PART_STEP:
        raise ConfigError(f"part {part} holds {count:,} items, at most {PART_STEP - 1:,}")
    numbers = np.arange(1, count + 1, dtype=np.int64) + part * PART_STEP
    columns = [
        payloads,
        pa.array(numbers).cast(pa.string()),
        pa.array(np.zeros(count, np.int32)),
        pa.nulls(count, pa.string()),
        pa.array(np.full(count, received_ms * 1_000_000)),
    ]
    return pa.record_batch(columns, schema=RECORD_SCHEMA)


class ExtractLanes:
    """One bounded lane with the slices of finished runs, one run after the other."""

    names = ("extracts",)

    def __init__(
        self,
        store: Store,
        manifests: Sequence[Manifest],
        positions: Mapping[str, ShardPosition],
        rule: SliceRule,
    ) -> None:
        """`positions`: the committed ones, by `ShardRef` text; runs that ended yield nothing."""
        self._store = store
        self._rule = rule
        self._manifests = {str(shard_of(manifest)): manifest for manifest in manifests}
        self._slices = self._read(positions)
        self._next = next(self._slices, None)

    def poll(self, lane: int) -> Slice | None:  # noqa: ARG002
        """The next slice. Raises: FatalError for a part that is not what its manifest says."""
        found = self._next
        if found is not None:
            self._next = next(self._slices, None)
        return found

    def has_shards(self, lane: int) -> bool:
        """Whether the lane has anything to wait for soon."""
        return not self.is_finished(lane)

    def is_finished(self, lane: int) -> bool:  # noqa: ARG002
        """Whether every slice was polled."""
        return self._next is None

    def part_of(self, item: Slice) -> ObjectRef:
        """What keeps a slice's records: the part that it was cut from."""
        assert item.first is not None
        part = self._manifests[str(item.shard)].parts[int(item.first) // PART_STEP - 1]
        return ObjectRef(part.path, part.sha256, part.bytes, item.rows)

    def _read(self, positions: Mapping[str, ShardPosition]) -> Iterator[Slice]:
        for name, manifest in self._manifests.items():
            position = positions.get(name, ShardPosition(None))
            if not position.is_ended:
                yield from self._read_run(manifest, position.sequence_number)

    def _read_run(self, manifest: Manifest, after: str | None) -> Iterator[Slice]:
        shard, last = shard_of(manifest), after
        done, skip = divmod(int(after or 0), PART_STEP)
        for number, part in enumerate(manifest.parts, start=1):
            if number < done or not part.rows:
                continue
            payloads = payloads_of(read_part(self._store, part), part, manifest.mapping)
            records = part_records(payloads, number, part.received_ms)
            for item in self._cut(shard, last, records.slice(skip if number == done else 0)):
                yield item
                last = item.last
        yield Slice(shard, last, empty_records(), ends_shard=True)

    def _cut(self, shard: ShardRef, last: str | None, records: pa.RecordBatch) -> list[Slice]:
        """Slices of one part; its end is the end of a slice."""
        slicer = Slicer(shard, last, self._rule)
        return [*slicer.push(records), *slicer.end()[:-1]]
