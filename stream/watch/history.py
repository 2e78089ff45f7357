"""A bounded ring of samples per feed, so that graphs survive restarts of who draws them.

    HEADRACE_HOME/watch/<feed>.jsonl     one sample a line: appended to, rewritten when too long

A sample is one short line written with one call, so that two writers at once interleave whole
lines and a kill -9 loses at most the last one; a torn line is ignored when it is read. The file
is compacted to its newest half by whoever finds it too long: written beside and renamed. Samples
that another writer appends meanwhile may be lost, which a graph survives.

Not here: the past before anybody watched (`ledger_history` derives it from the ledger, exactly).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.watch.state import Feed

KEPT = 3_600
"""Samples that a compaction leaves: an hour at one a second."""
MAX_BYTES = 1_000_000
"""A file beyond this is compacted: about 2.5 times of what is kept."""
EVERY_MS = 900
"""Two who watch the same home at once add no more samples than one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen of a feed at `at_ms`; None = not known then."""

    at_ms: int
    behind_ms: int | None = None
    freshness_ms: int | None = None
    records_per_s: float | None = None

    @classmethod
    def of(cls, feed: Feed, at_ms: int) -> Sample:
        """The sample of a feed's state."""
        rate = feed.throughput.records_per_s
        return cls(
            at_ms,
            feed.behind_ms,
            feed.freshness.silver_ms,
            None if rate is None else round(rate, 1),
        )


@dataclass(slots=True)
class _Known:
    """What was read of one file: which file, up to where."""

    file: tuple[int, int] = (0, 0)
    offset: int = 0
    samples: dict[int, Sample] = field(default_factory=dict)


class History:
    """The samples of every feed of one home."""

    def __init__(
        self,
        folder: Path,
        *,
        kept: int = KEPT,
        max_bytes: int = MAX_BYTES,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._folder, self._kept, self._max_bytes = folder, kept, max_bytes
        self._clock = clock
        self._last_ms: dict[str, int] = {}
        self._known: dict[str, _Known] = {}

    def path(self, feed: str) -> Path:
        """Where the samples of a feed are."""
        return self._folder / f"{feed}.jsonl"

    def add(self, feed: str, sample: Sample) -> None:
        """Append a sample, unless the newest one is hardly older. Raises: OSError."""
        if sample.at_ms - self._newest_ms(feed) < EVERY_MS:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        line = orjson.dumps(asdict(sample)) + b"\n"
        # What a killed writer left torn must not swallow this line, too.
        with self.path(feed).open("ab") as file:
            if not self._ends_whole(feed):
                line = b"\n" + line
            os.write(file.fileno(), line)
            size = os.fstat(file.fileno()).st_size
        self._last_ms[feed] = sample.at_ms
        if size > self._max_bytes:
            self._compact(feed)

    def read(self, feed: str, from_ms: int = 0) -> list[Sample]:
        """The samples of a feed since a time, in the order of time. Lines that are none are left
        out; no samples if the file is not there or cannot be read. A second call reads only what
        was appended since.
        """
        known = self._known.setdefault(feed, _Known())
        try:
            with self.path(feed).open("rb") as file:
                found = os.fstat(file.fileno())
                if (found.st_ino, found.st_dev) != known.file or found.st_size < known.offset:
                    known.file, known.offset = (found.st_ino, found.st_dev), 0
                    known.samples.clear()
                file.seek(known.offset)
                data = file.read()
        except OSError:
            return []
        whole = data.rfind(b"\n") + 1  # a line that is being written is read when it is whole
        known.offset += whole
        for line in data[:whole].split(b"\n"):
            if (sample := _parse(line)) is not None:
                known.samples[sample.at_ms] = sample
        return [known.samples[at] for at in sorted(known.samples) if at >= from_ms]

    def _newest_ms(self, feed: str) -> int:
        """When the newest sample was taken, ours or another writer's; 0 without one."""
        known = self._last_ms.get(feed, 0)
        with suppress(OSError), self.path(feed).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 512))
            found = (_parse(line) for line in file.read().split(b"\n"))
            now = now_ms(self._clock)
            # A clock that was set back must not silence the history.
            times = [s.at_ms for s in found if s is not None and s.at_ms <= now + EVERY_MS]
            return max([known if known <= now else 0, *times])
        return 0

    def _ends_whole(self, feed: str) -> bool:
        with self.path(feed).open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _compact(self, feed: str) -> None:
        """Keep the newest samples; another process that does so at the same time goes first."""
        with (self._folder / f"{feed}.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            path = self.path(feed)
            if path.stat().st_size <= self._max_bytes:
                return
            samples = self.read(feed)[-self._kept :]
            fresh = path.with_suffix(".tmp")
            fresh.write_bytes(b"".join(orjson.dumps(asdict(s)) + b"\n" for s in samples))
            fresh.replace(path)


def _parse(line: bytes) -> Sample | None:
    """A line's sample; None for a torn or foreign line."""
    try:
        found: Any = orjson.loads(line)
        sample = Sample(**found)
    except (orjson.JSONDecodeError, TypeError):
        return None
    numbers: list[Any] = [sample.behind_ms, sample.freshness_ms, sample.records_per_s]
    at: Any = sample.at_ms
    is_sane = isinstance(at, int) and at >= 0
    is_sane = is_sane and all(n is None or isinstance(n, int | float) for n in numbers)
    return sample if is_sane else None
