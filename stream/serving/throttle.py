"""How often a caller may ask: a bucket of tokens each, for a bounded number of callers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from stream.clock import SYSTEM_CLOCK, Clock

MAX_CALLERS = 10_000
"""Beyond it the caller that asked longest ago is forgotten: it starts again with a full bucket."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Throttle:
    """`per_second` requests in the long run, twice as many at once. Threads may share it."""

    def __init__(
        self, per_second: float, *, clock: Clock = SYSTEM_CLOCK, max_callers: int = MAX_CALLERS
    ) -> None:
        self._per_second, self._burst = per_second, 2 * per_second
        self._clock, self._max_callers = clock, max_callers
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> float:
        """0.0: go on. Otherwise the seconds after which to ask again."""
        now = self._clock.monotonic()
        with self._lock:
            bucket = self._buckets.pop(caller, None) or _Bucket(self._burst, now)
            self._buckets[caller] = bucket
            if len(self._buckets) > self._max_callers:
                self._buckets.popitem(last=False)
            grown = bucket.tokens + (now - bucket.at) * self._per_second
            bucket.tokens, bucket.at = min(self._burst, grown), now
            if bucket.tokens < 1:
                return (1 - bucket.tokens) / self._per_second
            bucket.tokens -= 1
            return 0.0

    @property
    def callers(self) -> int:
        """How many are remembered."""
        return len(self._buckets)
