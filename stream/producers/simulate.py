"""Seeded, realistic messages: the same seed, start and rate give the same bytes, on any machine.

Zipf-skewed symbols, random walks on tick grids, bursts within milliseconds, and the dirt of real
feeds: exact duplicates, malformed lines, late prints, corrections and cancels, and a share of
messages in the shapes of real venues. `Truth` counts what was handed out, so that a test or the
demo can compare it with what the lake holds. However many messages are taken at a time, the
sequence is the same. Not here: the market itself (`simulate_market`, `simulate_news`), pacing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from stream.errors import ConfigError
from stream.producers.simulate_market import Chunk, Market, MarketRule, QuoteMarket, TradeMarket
from stream.producers.simulate_news import NewsWire

MAX_RESEND_DISTANCE = 3_000
"""A duplicate or a correction follows its original within so many events."""


@dataclass(frozen=True, slots=True)
class SimulationRule:
    """Shares of all events. `venue_shapes`: events in a real venue's shape instead of our JSON."""

    market: MarketRule = field(default_factory=MarketRule)
    duplicates: float = 0.005
    malformed: float = 0.001
    late: float = 0.01
    corrections: float = 0.002
    venue_shapes: float = 0.2

    def __post_init__(self) -> None:
        for name in ("duplicates", "malformed", "late", "corrections", "venue_shapes"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"SimulationRule.{name} is a share, found {getattr(self, name)}")

    @property
    def messages_per_event(self) -> float:
        """What duplicates and the like add, on average."""
        return 1 + self.duplicates + self.malformed + self.corrections


@dataclass(slots=True)
class Truth:
    """What was handed out so far. `rows`: distinct valid rows, corrections and cancels included."""

    messages: int = 0
    rows: int = 0
    duplicates: int = 0
    duplicate_rows: int = 0
    malformed: Counter[str] = field(default_factory=Counter)
    late: int = 0
    corrections: int = 0
    cancels: int = 0

    def add(self, tags: list[str], rows: list[int]) -> None:
        """Count messages by tag; a duplicate's rows are given as a negative number."""
        kinds = Counter(tags)
        self.messages += len(tags)
        self.rows += sum(count for count in rows if count > 0)
        self.duplicate_rows -= sum(count for count in rows if count < 0)
        self.duplicates += kinds["duplicate"]
        self.late += kinds["late"]
        self.corrections += kinds["correct"]
        self.cancels += kinds["cancel"]
        for tag, count in kinds.items():
            if tag.startswith("malformed:"):
                self.malformed[tag.removeprefix("malformed:")] += count


@dataclass(order=True, slots=True)
class _Extra:
    """A message that follows event number `due`."""

    due: int
    serial: int
    key: str = field(compare=False)
    line: bytes = field(compare=False)
    tag: str = field(compare=False)
    rows: int = field(compare=False)


class Simulator:
    """An endless sequence of messages of one feed.

    `rate` (messages/s) only sets how event times advance from `start_ns`; the caller paces.

    >>> a = Simulator("trades", seed=7, start_ns=1_764_000_000_000_000_000)
    >>> b = Simulator("trades", seed=7, start_ns=1_764_000_000_000_000_000)
    >>> a.generate(5) == b.generate(2) + b.generate(3)
    True
    """

    def __init__(
        self,
        feed: str,
        *,
        seed: int,
        start_ns: int,
        rate: float = 5_000.0,
        rule: SimulationRule | None = None,
    ) -> None:
        if rate <= 0:
            raise ConfigError(f"simulate {feed}: rate must be > 0 messages/s, found {rate}")
        self.rule = rule or SimulationRule()
        self.truth = Truth()
        self._rng = np.random.default_rng([seed, crc32(feed.encode())])
        self._gap_ns = 1e9 / rate * self.rule.messages_per_event
        self._start_ns = start_ns
        # A chunk is at most a second long: event times never run further ahead of the caller.
        self._chunk = int(min(max(rate, 1), 4_096))
        self._market = _market(feed, self._rng, self.rule)
        self._events = 0
        self._serial = 0
        self._extras: list[_Extra] = []
        self._buffer: tuple[list[tuple[str, bytes]], list[str], list[int]] = ([], [], [])
        self._at = 0

    def take(self, count: int) -> list[tuple[str, bytes]]:
        """The next `count` messages with their partition keys."""
        taken: list[tuple[str, bytes]] = []
        while len(taken) < count:
            messages, tags, rows = self._buffer
            if self._at == len(messages):
                self._refill()
                continue
            end = min(len(messages), self._at + count - len(taken))
            taken += messages[self._at : end]
            self.truth.add(tags[self._at : end], rows[self._at : end])
            self._at = end
        return taken

    def generate(self, count: int) -> list[bytes]:
        """The next `count` messages, without keys."""
        return [line for _, line in self.take(count)]

    def batches(self, count: int, size: int = 10_000) -> Iterator[list[bytes]]:
        """The next `count` messages in lists of at most `size`: bounded memory."""
        for done in range(0, count, size):
            yield self.generate(min(size, count - done))

    def _refill(self) -> None:
        count, rule = self._chunk, self.rule
        begin_ns = self._start_ns + int(self._events * self._gap_ns)
        ts = begin_ns + _bursts(self._rng, count, count * self._gap_ns)
        late = self._rng.random(count) < rule.late
        ts[late] -= self._rng.integers(1_000_000_000, 600_000_000_000, int(late.sum()))
        chunk = self._market.chunk(ts, self._rng.random(count) < rule.venue_shapes)
        tags = ["late" if is_late else "new" for is_late in late.tolist()]
        self._add_extras(chunk)
        self._buffer = self._interleave(chunk, tags)
        self._events += count
        self._at = 0

    def _add_extras(self, chunk: Chunk) -> None:
        rule, rng, count = self.rule, self._rng, len(chunk.lines)
        for i in np.flatnonzero(rng.random(count) < rule.duplicates).tolist():
            at = i + self._delay()
            self._push(at, chunk.keys[i], chunk.lines[i], "duplicate", -chunk.rows[i])
        for i in np.flatnonzero(rng.random(count) < rule.malformed).tolist():
            kind = chunk.malformed_kinds[int(rng.integers(len(chunk.malformed_kinds)))]
            line = chunk.malform(i, kind)
            self._push(i, chunk.keys[i], line, f"malformed:{kind}", 0)
        for i in np.flatnonzero(rng.random(count) < rule.corrections).tolist():
            delay = self._delay()
            kind = "cancel" if rng.random() < 0.3 else "correct"
            known_at_ns = self._start_ns + int((self._events + i + delay) * self._gap_ns)
            changed = chunk.correct(i, kind, known_at_ns)
            if changed is not None:
                self._push(i + delay, chunk.keys[i], changed, kind, 1)

    def _delay(self) -> int:
        return int(self._rng.integers(1, MAX_RESEND_DISTANCE))

    def _push(self, i: int, key: str, line: bytes, tag: str, rows: int) -> None:
        """Send `line` after event `i` of this chunk (later chunks count on)."""
        self._serial += 1
        extra = _Extra(self._events + i, self._serial, key, line, tag, rows)
        heapq.heappush(self._extras, extra)

    def _interleave(
        self, chunk: Chunk, tags: list[str]
    ) -> tuple[list[tuple[str, bytes]], list[str], list[int]]:
        messages: list[tuple[str, bytes]] = []
        out_tags: list[str] = []
        out_rows: list[int] = []
        pairs = list(zip(chunk.keys, chunk.lines, strict=True))
        done = 0
        while self._extras and self._extras[0].due < self._events + len(pairs):
            extra = heapq.heappop(self._extras)
            upto = extra.due - self._events + 1
            messages += pairs[done:upto]
            out_tags += tags[done:upto]
            out_rows += chunk.rows[done:upto]
            messages.append((extra.key, extra.line))
            out_tags.append(extra.tag)
            out_rows.append(extra.rows)
            done = max(done, upto)
        return messages + pairs[done:], out_tags + tags[done:], out_rows + chunk.rows[done:]


def _bursts(rng: np.random.Generator, count: int, length_ns: float) -> np.ndarray:
    """Increasing offsets in [0, length): most gaps are microseconds, few are long."""
    gaps = rng.exponential(1.0, count) * np.where(rng.random(count) < 0.7, 0.02, 1.0)
    ends = np.cumsum(gaps)
    offsets: np.ndarray = ((ends - gaps) / ends[-1] * length_ns).astype(np.int64)
    return offsets


def _market(feed: str, rng: np.random.Generator, rule: SimulationRule) -> Market:
    if feed == "trades":
        return TradeMarket(rng, rule.market)
    if feed == "quotes":
        return QuoteMarket(rng, rule.market)
    if feed == "news":
        return NewsWire(rng, rule.market)
    raise ConfigError(
        f"feed {feed!r} has no simulator; it exists for trades, quotes and news. "
        "Publish your own messages with --from-file."
    )
