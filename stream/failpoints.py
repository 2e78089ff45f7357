"""Failpoints: named places of the road where a process can be made to die, stall or err.

Off unless `HEADRACE_FAILPOINTS` arms them; then a WARNING says so at the start of every verb.
Off, a call is one look at a module's global: some 50 ns, a few times per slice. They exist to
prove the crash windows (`tests/crash`) and to try an alert or a runbook against a platform.

    HEADRACE_FAILPOINTS="bronze-put-done=kill@3; commit-send=pause:5@2; commit-response=error@1"

    rule    NAME=ACTION[:ARGUMENT][@HITS]; several are separated by `;`, and those of one name that
            are due at the same hit act in their order ("silver-put=pause:0.3@2; silver-put=kill@2")
    ACTION  kill   SIGKILL to this process: no handler, no flush, as a machine that is gone
            stop   SIGSTOP: frozen until somebody sends SIGCONT
            pause:SECONDS
            error[:CLASS]  raise this class of `stream.errors`; StoreUnavailableError by default,
                   which at a place after an effect is a response that was lost
            skip   where the table below says so: leave out what the place is about to do
    HITS    the how-manieth call of this process, from 1: `@3` the third alone, `@3+` from there
            on, `@3-5`; the first one by default

Guarantees: never against a real account (`settings` refuses); each firing is a line on stderr,
"failpoint NAME: ACTION at hit N", written before the action. Not here: faults of the network and
of services, which tests put in between.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stream import errors
from stream.clock import SYSTEM_CLOCK

log = logging.getLogger(__name__)

CATALOGUE: Mapping[str, str] = {
    "slice-read": "A slice was read from the stream; nothing of it is stored",
    "bronze-put-done": "A Bronze object is stored; its writer does not know yet",
    "silver-put": "A data file is about to be stored; its Bronze object was begun before",
    "slice-durable": "Everything that a slice names is stored; nothing of it is visible",
    "commit-send": "Data files and the ledger's entry are stored; the commit is about to be sent",
    "commit-refused": "The catalog refused a commit: another writer was first",
    "commit-response": "A commit landed; its writer does not know yet",
    "commit-landed": "This process knows that its commit landed; bars do not include it yet",
    "bars-send": "The files of a revision of bars are stored; their commit is about to be sent",
    "ledger-head": "The committed state is about to be read anew; skip: what was read last stays",
    "compact-send": "A compacted file is stored and verified; it is about to be published",
    "expire-send": "The snapshots to expire are chosen; their expiry is about to be sent",
}
"""Every failpoint and what holds when it is reached. Each is called at one place."""

_RULE = re.compile(
    r"(?P<name>[a-z-]+)=(?P<action>[a-z]+)(:(?P<argument>[A-Za-z0-9.]+))?"
    r"(@(?P<first>[1-9]\d*)(?P<rest>\+|-(?P<last>[1-9]\d*))?)?"
)
_FORM = "NAME=ACTION[:ARGUMENT][@HITS], e.g. bronze-put-done=kill@3 or commit-send=pause:5@2+"
_FOR_EVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Rule:
    """What one failpoint does at the hits `first` to `last`, counted from 1, both included."""

    name: str
    action: str
    argument: str = ""
    first: int = 1
    last: int = 1

    def __str__(self) -> str:
        return f"{self.action}:{self.argument}" if self.argument else self.action


class _Armed:
    """The rules of this process and how often each place was reached; any thread may reach one."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._hits: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reach(self, name: str) -> bool:
        with self._lock:
            self._hits[name] += 1
            hit = self._hits[name]
        due = [r for r in self._rules if r.name == name and r.first <= hit <= r.last]
        skips = [_act(rule, hit) for rule in due]
        return any(skips)


_armed: _Armed | None = None


def failpoint(name: str) -> bool:
    """A place of the catalogue; does nothing unless armed. True: skip what comes next.

    Raises: what its rule says.
    """
    return _armed is not None and _armed.reach(name)


def arm(text: str | None) -> None:
    """Arm this process by the setting's text, and say so; None or nothing disarms it.

    Raises: ValueError as `parse_rules` does.
    """
    global _armed  # noqa: PLW0603 - one look at a global is what a call may cost
    rules = parse_rules(text or "")
    _armed = _Armed(rules) if rules else None
    if rules:
        log.warning("failpoints are armed, this process will fail on purpose: %s", text)


def parse_rules(text: str) -> list[Rule]:
    """The rules of a setting's text.

    >>> parse_rules("commit-send=pause:5@2+")[0].argument
    '5'

    Raises: ValueError saying what is wrong with which rule, and what it could be.
    """
    return [_parse(part.strip()) for part in text.split(";") if part.strip()]


def _parse(text: str) -> Rule:
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError(f"failpoint rule {text!r}: expected {_FORM}")
    name, action, argument = found["name"], found["action"], found["argument"] or ""
    if name not in CATALOGUE:
        near = difflib.get_close_matches(name, CATALOGUE, n=3, cutoff=0.4)
        raise ValueError(f"no failpoint {name!r}; the nearest are {', '.join(near or CATALOGUE)}")
    if problem := _problem(name, action, argument):
        raise ValueError(f"failpoint rule {text!r}: {problem}")
    first = int(found["first"] or 1)
    last = _FOR_EVER if found["rest"] == "+" else int(found["last"] or first)
    if last < first:
        raise ValueError(f"failpoint rule {text!r}: hits {first}-{last} are none")
    return Rule(name, action, argument, first, last)


def _problem(name: str, action: str, argument: str) -> str | None:
    """What is wrong with an action."""
    if action == "pause":
        is_number = re.fullmatch(r"\d+(\.\d+)?", argument)
        return None if is_number else "pause needs seconds, e.g. pause:0.5"
    if action == "error":
        known = [n for n in vars(errors) if n.endswith("Error") and n != "PipelineError"]
        if not argument or argument in known:
            return None
        return f"error {argument!r} is none of stream.errors: {', '.join(known)}"
    if action not in {"kill", "stop", "skip"}:
        return f"action {action!r}: expected kill, stop, pause:SECONDS, error[:CLASS] or skip"
    if action == "skip" and "skip:" not in CATALOGUE[name]:
        return f"nothing can be skipped at {name}"
    return f"{action} takes no argument, found {argument!r}" if argument else None


def _act(rule: Rule, hit: int) -> bool:
    os.write(2, f"failpoint {rule.name}: {rule} at hit {hit}\n".encode())
    if rule.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif rule.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif rule.action == "pause":
        SYSTEM_CLOCK.sleep(float(rule.argument))
    elif rule.action == "error":
        raise getattr(errors, rule.argument or "StoreUnavailableError")(
            f"failpoint {rule.name} at hit {hit}: {CATALOGUE[rule.name]}"
        )
    return rule.action == "skip"
