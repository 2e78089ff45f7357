"""What the platform says of itself: feeds, freshness, lag. Asked often, read rarely.

An answer is kept for a moment and shared: lag costs each shard a read of the five a second that
all its readers share, and no number of callers may use them up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from stream.clock import SYSTEM_CLOCK, Clock
from stream.feeds import load_feeds, streamed_feeds
from stream.lag import LagReport, read_lag, table_lag
from stream.lake.connect import Lake
from stream.lake.entries import HEAD
from stream.serving.problem import ProblemError
from stream.serving.snapshots import not_started
from stream.settings import Settings

FRESHNESS_SECONDS = 1.0
LAG_SECONDS = 5.0
Rows = list[dict[str, Any]]


@dataclass(slots=True)
class _Answer:
    value: Rows
    made_at: float


class Status:
    """Feeds, freshness and lag. Threads may share it."""

    def __init__(
        self,
        settings: Settings,
        lake: Callable[[], Lake],
        *,
        clock: Clock = SYSTEM_CLOCK,
        lag: Callable[..., LagReport] = read_lag,
    ) -> None:
        self._settings, self._lake, self._clock, self._lag = settings, lake, clock, lag
        self._answers: dict[str, _Answer] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def feeds(self) -> list[dict[str, Any]]:
        """Every feed's contract, as a caller needs it."""
        return [
            {
                "feed": contract.feed,
                "doc": contract.doc,
                "key": list(contract.key),
                "order": list(contract.order),
                "event_time": contract.event_time,
                "has_stream": contract.has_stream,
                "freshness_seconds": contract.freshness_seconds,
                "columns": [
                    {
                        "name": column.name,
                        "type": str(column.type),
                        "nullable": column.nullable,
                        "doc": column.doc,
                    }
                    for column in contract.columns
                ],
            }
            for contract in load_feeds().values()
        ]

    def freshness(self, feed: str | None) -> list[dict[str, Any]]:
        """Per started feed how old the newest row is that a query sees.

        Raises: ProblemError (404: never started), StoreUnavailableError, ConfigError.
        """
        return self._shared(
            f"freshness {feed}", FRESHNESS_SECONDS, lambda: self._read_freshness(feed)
        )

    def lag(self, feed: str | None) -> list[dict[str, Any]]:
        """Per shard how far the dataflow is behind. Raises: as `freshness`."""
        return self._shared(f"lag {feed}", LAG_SECONDS, lambda: self._read_lag(feed))

    def _read_freshness(self, feed: str | None) -> list[dict[str, Any]]:
        lake = self._lake()
        found = []
        for name in self._started(feed, list(load_feeds())):
            lag = table_lag(lake, load_feeds()[name], clock=self._clock)
            found.append({**asdict(lag), "is_fresh": lag.is_fresh})
        return found

    def _read_lag(self, feed: str | None) -> list[dict[str, Any]]:
        names = self._started(feed, streamed_feeds())
        if not names:
            return []
        report = self._lag(self._settings, names, clock=self._clock)
        return [asdict(shard) for shard in report.shards]

    def _started(self, feed: str | None, known: list[str]) -> list[str]:
        """Feeds that have committed, or began to: a table alone is none yet."""
        if feed is not None and feed not in known:
            raise ProblemError(
                404, "no-stream", f"Feed {feed} has no stream: extracts fill it. Ask /v1/freshness."
            )
        catalog = self._lake().catalog
        wanted = known if feed is None else [feed]
        tables = set(catalog.names()) & set(wanted)
        found = [n for n in wanted if n in tables and HEAD in catalog.open(n).properties]
        if feed is not None and not found:
            raise not_started(feed)
        return found

    def _shared(self, name: str, seconds: float, read: Callable[[], Rows]) -> Rows:
        """One reader at a time; whoever waited for it takes what it found."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            found = self._answers.get(name)
            if found is None or self._clock.monotonic() - found.made_at > seconds:
                found = self._answers[name] = _Answer(read(), self._clock.monotonic())
            return found.value
