"""Simulated news: headlines about the simulated symbols, some of them near copies of others.

A share of the stories repeats the text of an earlier one under another id and publisher, as news
wires do, so that near-duplicate grouping has something to find. Not here: dirt and order.
"""

from __future__ import annotations

import numpy as np
import orjson

from stream.producers.pack import partition_key
from stream.producers.simulate_market import Chunk, Instruments, MarketRule

_KINDS = ("cut_json", "wrong_type", "invalid_utf8")
_PUBLISHERS = ("Sim Wire", "Daily Ticker", "The Bourse", "Ledger Post", "Market Échos")
_EVENTS = (
    "beats estimates as margins widen",
    "cuts full-year outlook after weak quarter",
    "names a new chief financial officer",
    "announces a share buyback",
    "recalls a product line in three countries",
    "wins a long supply contract",
    "faces an inquiry into its accounts",
    "opens a research site near the coast",
)
_WORDS = (  # noqa: SIM905  # 24 quoted words read worse
    "analysts revenue guidance quarter demand supply costs growth shares market outlook margin "
    "customers orders regulators filing board dividend cash debt region capacity prices results"
).split()


class NewsWire:
    """Stories in canonical JSON."""

    def __init__(self, rng: np.random.Generator, rule: MarketRule) -> None:
        self._rng = rng
        self._book = Instruments(rng, rule)
        self._buckets = rule.buckets
        self._next_id = 1
        self._last_text = "the company gave no further details"

    def chunk(self, ts: np.ndarray, in_venue_shape: np.ndarray) -> Chunk:
        """One story per time, all in our shape: wires have no shape of their own here."""
        del in_venue_shape
        stories = [self._story(at) for at in ts.tolist()]
        keys = [partition_key("simwire", symbol, self._buckets) for symbol, _ in stories]
        lines = [line for _, line in stories]
        return Chunk(
            keys,
            lines,
            [1] * len(lines),
            lambda i, kind: _malform(lines[i], kind),
            lambda i, kind, known_at_ns: None,  # noqa: ARG005  # stories have no corrections
            _KINDS,
        )

    def _story(self, ts_ns: int) -> tuple[str, bytes]:
        rng, story_id = self._rng, self._next_id
        self._next_id += 1
        named = [self._book.names[i] for i in set(self._book.draw(rng, int(rng.integers(1, 4))))]
        named.sort()
        if rng.random() >= 0.1:
            words = rng.choice(_WORDS, int(rng.integers(20, 60))).tolist()
            self._last_text = f"{named[0]} said {' '.join(words)}."
        story = {
            "source": "simwire",
            "story_id": f"sw-{story_id}",
            "ts_published_ns": ts_ns,
            "title": f"{named[0]} {_EVENTS[int(rng.integers(len(_EVENTS)))]}",
            "text": self._last_text,
            "url": f"https://news.example/simwire/{story_id}",
            "publisher": _PUBLISHERS[int(rng.integers(len(_PUBLISHERS)))],
            "symbols": ",".join(named),
        }
        return named[0], orjson.dumps(story)


def _malform(line: bytes, kind: str) -> bytes:
    if kind == "cut_json":
        return line[: len(line) * 2 // 3]
    if kind == "wrong_type":
        return line.replace(b'"title":"', b'"title":["', 1).replace(b'","text"', b'"],"text"', 1)
    return line.replace(b'"title":"', b'"title":"\xff\xfe', 1)
