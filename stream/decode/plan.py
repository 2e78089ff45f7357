"""A contract made ready for decoding: its grammar, its constants and what was learned of its data.

Made once per contract object and kept; templates are added as data shows them (bounded), and are
never part of a result: without any, decoding gives the same rows, slower.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from stream.decode.message import Grammar, build_grammar
from stream.decode.template import Template
from stream.feeds.contract import Contract

MAX_TEMPLATES = 32
MAX_PAUSE = 5
"""Slices without learning, as a power of two."""


@dataclass(frozen=True, slots=True)
class Constants:
    """Every text that a contract may put into a row without finding it there, in one blob."""

    blob: bytes
    places: dict[str, tuple[int, int]]


class Templates:
    """The templates learned so far, bounded; thread-safe. They only save time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._weights: dict[Template, float] = {}
        self._pause = 0
        self._failures = 0

    def known(self) -> list[Template]:
        """The most used of late first."""
        with self._lock:
            return sorted(self._weights, key=lambda one: -self._weights[one])

    def used(self, template: Template, messages: int) -> None:
        """Note how many messages of a slice matched; what no longer matches is forgotten."""
        with self._lock:
            weight = self._weights.pop(template, 0.0) / 2 + messages
            if weight >= 1:
                self._weights[template] = weight
            if len(self._weights) > MAX_TEMPLATES:
                del self._weights[min(self._weights, key=lambda one: self._weights[one])]

    def may_learn(self) -> bool:
        """Whether to look for new templates among a few odd messages: less often, if in vain."""
        with self._lock:
            self._pause -= 1
            return self._pause < 0

    def note_learning(self, *, paid: bool) -> None:
        """Say whether looking for new templates found one that matched."""
        with self._lock:
            self._failures = 0 if paid else min(self._failures + 1, MAX_PAUSE)
            self._pause = (1 << self._failures) - 1

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._weights.clear()
            self._pause = self._failures = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What decoding needs to know of a contract."""

    contract: Contract
    grammar: Grammar
    constants: Constants
    templates: Templates = field(default_factory=Templates)


_LOCK = threading.Lock()
_PLANS: dict[str, Plan] = {}


def plan_of(contract: Contract) -> Plan:
    """The plan of a contract object; another contract under the same name gets another plan."""
    plan = _PLANS.get(contract.feed)
    if plan is not None and plan.contract is contract:
        return plan
    grammar = build_grammar(contract)
    plan = Plan(contract, grammar, _constants(grammar))
    with _LOCK:
        _PLANS[contract.feed] = plan
    return plan


def _constants(grammar: Grammar) -> Constants:
    texts: dict[str, None] = {}
    for layout in grammar.layouts:
        for reader in layout.readers:
            values = reader.options.get("values", {})
            for text in (*values.values(), reader.options.get("value"), reader.default):
                if isinstance(text, str):
                    texts[text] = None
    places, blob = {}, b""
    for text in texts:
        encoded = text.encode()
        places[text] = (len(blob), len(encoded))
        blob += encoded
    return Constants(blob, places)
