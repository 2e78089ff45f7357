"""Simulated trades as files, and the lanes that read them: an input without a stream.

`write_trade_files` writes JSON lines, one file per slice, shard by shard in turn; the same
arguments give the same bytes on any machine. `FileLanes` yields them as the slices that the lanes
of `stream.sources` would. Lines that are empty or no UTF-8 are left out: several of the engines
that headrace is compared with cannot read a file that holds one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    import pyarrow as pa

    from stream.slices import Slice

LINES_PER_RECORD = 25
"""As the packing producer sends them."""
SHARDS = 4
START_NS = 1_764_000_000_000_000_000
RATE = 20_000
"""Messages a second of event time."""


def write_trade_files(
    folder: Path, messages: int, slice_messages: int, *, start_ns: int = START_NS
) -> None:
    """Write `messages` simulated trades, less what is left out, into a new folder."""
    from stream.producers.simulate import SimulationRule, Simulator

    simulator = Simulator(
        "trades", seed=7, start_ns=start_ns, rate=RATE, rule=SimulationRule(venue_shapes=0)
    )
    folder.mkdir()
    open_lines: list[list[bytes]] = [[] for _ in range(SHARDS)]
    written = [0] * SHARDS

    def write(shard: int) -> None:
        name = f"{shard}-{written[shard]:05d}.jsonl"
        (folder / name).write_bytes(b"\n".join(open_lines[shard]) + b"\n")
        open_lines[shard] = []
        written[shard] += 1

    for done in range(0, messages, 10_000):
        for key, line in simulator.take(min(10_000, messages - done)):
            shard = crc32(key.encode()) % SHARDS
            if line and is_utf8(line):
                open_lines[shard].append(line)
            if len(open_lines[shard]) == slice_messages:
                write(shard)
    for shard in range(SHARDS):
        if open_lines[shard]:
            write(shard)


class FileLanes:
    """Slices from files, one lane a shard: the lanes of `sources` without a stream."""

    def __init__(self, files: list[Path], lines_per_record: int = LINES_PER_RECORD) -> None:
        self.names = [f"lane-{n:02d}" for n in range(SHARDS)]
        self._files = [[f for f in files if f.name.startswith(f"{n}-")] for n in range(SHARDS)]
        self._done = [0] * SHARDS
        self._last: list[str | None] = [None] * SHARDS
        self._lines_per_record = lines_per_record

    def has_shards(self, lane: int) -> bool:
        return not self.is_finished(lane)

    def is_finished(self, lane: int) -> bool:
        return self._done[lane] >= len(self._files[lane])

    def poll(self, lane: int) -> Slice | None:
        from stream.slices import ShardRef, Slice

        if self.is_finished(lane):
            return None
        number = self._done[lane]
        records = read_records(self._files[lane][number], number, self._lines_per_record)
        shard = ShardRef("trades", "bench.00000000", f"shardId-{lane:012d}")
        item = Slice(shard, self._last[lane], records)
        self._done[lane], self._last[lane] = number + 1, item.last
        return item


def read_records(
    path: Path, number: int, lines_per_record: int = LINES_PER_RECORD
) -> pa.RecordBatch:
    """A file's lines as records of several lines each; `number`: which file of its shard it is."""
    return pack_records(path.read_bytes(), number, lines_per_record)


def pack_records(
    data: bytes, number: int, lines_per_record: int = LINES_PER_RECORD
) -> pa.RecordBatch:
    """The same of lines that are in memory."""
    import numpy as np
    import pyarrow as pa

    from stream.slices import RECORD_SCHEMA

    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
    cuts = np.unique(np.append(ends[lines_per_record - 1 :: lines_per_record], ends[-1]))
    count = len(cuts)
    offsets = np.concatenate([[0], cuts]).astype(np.int32)
    payload = pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    base = 10**55 + number * 10**9
    events = [
        json.loads(line)["ts_event_ns"] for line in data[-8_000:].splitlines()[1:] if b"}" in line
    ]
    arrival = max(e for e in events if isinstance(e, int)) + 1_000_000_000
    return pa.record_batch(
        [
            payload,
            pa.array([str(base + n) for n in range(count)]),
            pa.array(np.zeros(count, np.int32)),
            pa.array(["sim:1"] * count),
            pa.array(np.full(count, arrival)),
        ],
        schema=RECORD_SCHEMA,
    )


def is_utf8(line: bytes) -> bool:
    """Whether every engine can read it."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
