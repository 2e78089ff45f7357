"""What one process of a feed costs by AWS's list prices: its task's time, its requests, its shards.

Prices are settings (`HEADRACE_PRICE_…_USD`), their defaults list prices of eu-west-1 as of 2026-11,
the same as `infra/prices.py`; check them before you plan with the numbers. Not counted: storage,
what producers pay to put records, logs, NAT, and what a month costs before a record moves
(`infra/costs.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stream.settings import Settings

HOUR_SECONDS = 3_600
ICEBERG_PUTS, ICEBERG_GETS = 3, 2
"""Requests of one commit that the catalog's library makes by itself: manifest, list, metadata."""


@dataclass(frozen=True, slots=True)
class Prices:
    """USD for one unit each."""

    task_hour: float
    shard_hour: float
    write: float
    read: float

    @staticmethod
    def of(settings: Settings) -> Prices:
        """As the settings say."""
        return Prices(
            task_hour=settings.task_vcpus * settings.price_vcpu_hour_usd
            + settings.task_memory_gb * settings.price_memory_gb_hour_usd,
            shard_hour=settings.price_shard_hour_usd,
            write=settings.price_thousand_writes_usd / 1000,
            read=settings.price_thousand_reads_usd / 1000,
        )


@dataclass(slots=True)
class CostMeter:
    """Adds up; each part only grows.

    >>> meter = CostMeter(Prices(task_hour=0.04, shard_hour=0.02, write=5e-6, read=4e-7))
    >>> found = meter.read(1_000.0, shards=2, calls={"put": 1_000}, commits=0)
    >>> found["stream"], found["requests"]
    (0.0, 0.005)
    >>> meter.read(4_600.0, shards=2, calls={"put": 1_000}, commits=0)["stream"]
    0.04
    """

    prices: Prices
    _since: float | None = None
    _compute: float = 0.0
    _stream: float = 0.0

    def read(
        self, at_seconds: float, *, shards: int, calls: Mapping[str, int], commits: int
    ) -> dict[str, float]:
        """USD so far, by part.

        Args: at_seconds: any clock that never goes back; the first reading is where time begins.
        shards: open ones, since the last reading. calls (of the object store), commits: so far.
        """
        hours = max(0.0, at_seconds - (at_seconds if self._since is None else self._since))
        hours /= HOUR_SECONDS
        self._since = at_seconds
        self._compute += hours * self.prices.task_hour
        self._stream += hours * self.prices.shard_hour * shards
        writes = calls.get("put", 0) + calls.get("list", 0) + ICEBERG_PUTS * commits
        reads = calls.get("get", 0) + ICEBERG_GETS * commits
        return {
            "compute": self._compute,
            "requests": writes * self.prices.write + reads * self.prices.read,
            "stream": self._stream,
        }
