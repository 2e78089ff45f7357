"""Messages from a file of lines (.gz or plain) or from the simulator, at a given pace.

Lines are published as they are, malformed ones too: judging them is the decoder's work. Memory is
bounded by the batch and by `MAX_LINE_BYTES`. Not here: packing and publishing.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.producers.pack import DEFAULT_BUCKETS
from stream.producers.route import route_key
from stream.producers.simulate import Simulator

MAX_LINE_BYTES = 8 * 1024 * 1024
"""A longer line is cut into pieces of this size; each is refused by size and named."""

_BATCH = 2_000
_PACE_SECONDS = 0.02


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without their ends; empty ones are skipped.

    Raises: ConfigError when it cannot be opened, or a .gz is cut or damaged (names the line).
    """
    count = 0
    try:
        with _open(path) as file:
            while line := file.readline(MAX_LINE_BYTES):
                count += 1
                if line := line.rstrip(b"\r\n"):
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(
            f"{path}: cannot be read after line {count}: {error}; lines before it are published"
        ) from error


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


async def replay_file(
    path: Path,
    *,
    rate: float | None = None,
    count: int | None = None,
    buckets: int = DEFAULT_BUCKETS,
    clock: Clock = SYSTEM_CLOCK,
) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Batches of a file's lines; unpaced if `rate` is None, at most `count` lines."""
    lines = read_lines(path)

    def take(size: int) -> list[tuple[str, bytes]]:
        batch: list[tuple[str, bytes]] = []
        for line in lines:
            batch.append((route_key(line, buckets), line))
            if len(batch) == size:
                break
        return batch

    async for batch in _pace(take, rate, count, clock):
        yield batch


async def simulate(
    simulator: Simulator,
    *,
    rate: float | None = None,
    count: int | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Batches of a simulator's messages, endless unless `count` is given."""
    async for batch in _pace(simulator.take, rate, count, clock):
        yield batch


async def _pace(
    take: Callable[[int], list[tuple[str, bytes]]],
    rate: float | None,
    count: int | None,
    clock: Clock,
) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Call `take` so that `rate` messages/s come out on average; a late batch is caught up."""
    begin, done = clock.monotonic(), 0
    while count is None or done < count:
        elapsed = clock.monotonic() - begin
        size = _BATCH if rate is None else min(_BATCH, int(elapsed * rate) + 1 - done)
        if size <= 0:  # slower than a message per pause
            await asyncio.sleep(_PACE_SECONDS)
            continue
        batch = take(size if count is None else min(size, count - done))
        if not batch:
            return
        done += len(batch)
        yield batch
        if size < _BATCH:
            # Up to date: without a pause the next batches would hold a message or two each.
            await asyncio.sleep(_PACE_SECONDS)
