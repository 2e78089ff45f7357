"""Where the road's CPU time goes: a stopwatch around each of its steps, on every thread.

`Stopwatch.watch` replaces functions of the product's modules by timed ones for this process; a
step's time is its own, without the steps that it calls. Garbage collection is a step too: it
runs inside whichever step allocates. What no step accounts for (Bytewax, Python's own start of
threads, the memory that is given back) is the rest of the process' CPU time.
"""

from __future__ import annotations

import functools
import gc
import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

STEPS = {
    "read": ("trade_files:read_records",),
    "slice totals": ("stream.slices:Slice.payload_bytes", "stream.slices:Slice.arrival_ns"),
    "bronze encode": ("stream.bronze:bronze_bytes",),
    "bronze hash": ("stream.bronze:sha256",),
    "store put": ("stream.lake.store:Store.put_once", "stream.lake.store:Store.put"),
    "decode: split lines": ("stream.decode.decoder:split_lines",),
    "decode: match templates": ("stream.decode.learn:match_template",),
    "decode: read values": ("stream.decode.learn:_Pass._read",),
    "decode: one by one": ("stream.decode.decoder:_read_strictly",),
    "decode: rules, Arrow": ("stream.decode.decoder:_check_rules",),
    "decode: the rest": ("stream.flow:decode_records",),
    "dedup: hash keys": ("stream.dedup:hash_rows",),
    "dedup: look up": ("stream.dedup:Dedup.drop_duplicates",),
    "silver sort": ("stream.silver:sort_rows",),
    "silver rows": ("stream.flow:silver_rows",),
    "silver encode": ("stream.silver:encode",),
    "silver hash": ("stream.silver:sha256",),
    "quarantine": ("stream.flow:write_rejects", "stream.quarantine:RejectWatch.check"),
    "bar totals": ("stream.flow:slice_totals",),
    "commit: data files": ("stream.lake.catalog:LakeTable._data_file",),
    "commit": ("stream.lake.ledger:Ledger.commit_slices",),
    "bars": ("stream.bar_keeper:BarKeeper.apply",),
}
"""Step -> the functions (module:name) whose time it is."""

COLLECTION = "garbage collection"


class Stopwatch:
    """CPU seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stacks = threading.local()
        self._lock = threading.Lock()

    def watch(self, steps: Mapping[str, tuple[str, ...]] = STEPS) -> None:
        """Time these functions from now on. Raises: AttributeError for one that is not there."""
        for step, places in steps.items():
            for place in places:
                module, _, name = place.partition(":")
                owner: Any = importlib.import_module(module)
                *parents, last = name.split(".")
                for parent in parents:
                    owner = getattr(owner, parent)
                found = vars(owner)[last]
                if isinstance(found, property):
                    assert found.fget is not None
                    setattr(owner, last, property(self._timed(step, found.fget)))
                else:
                    setattr(owner, last, self._timed(step, found))
        gc.callbacks.append(self._on_collection)

    def begin(self) -> None:
        """Forget what was measured so far."""
        self.seconds.clear()

    def per_million(self, messages: int, cpu_seconds: float) -> dict[str, float]:
        """CPU seconds per million messages by step, the largest first, and the rest."""
        found = dict(sorted(self.seconds.items(), key=lambda item: -item[1]))
        found["not accounted for"] = cpu_seconds - sum(found.values())
        return {step: round(seconds / messages * 1e6, 3) for step, seconds in found.items()}

    def _timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._enter(step)
            try:
                return function(*args, **kwargs)
            finally:
                self._leave()

        return timed

    def _on_collection(self, phase: str, _: object) -> None:
        if phase == "start":
            self._enter(COLLECTION)
        else:
            self._leave()

    def _stack(self) -> list[list[Any]]:
        """This thread's open steps: name, begin, seconds spent in steps inside it."""
        if not hasattr(self._stacks, "open"):
            self._stacks.open = []
        stack: list[list[Any]] = self._stacks.open
        return stack

    def _enter(self, step: str) -> None:
        self._stack().append([step, time.thread_time(), 0.0])

    def _leave(self) -> None:
        stack = self._stack()
        step, began, inside = stack.pop()
        spent = time.thread_time() - began
        with self._lock:
            self.seconds[step] += spent - inside
        if stack:
            stack[-1][2] += spent


def print_steps(steps: Mapping[str, float]) -> None:
    """A table of CPU seconds per million messages."""
    total = sum(steps.values())
    print(f"{'step':26}{'CPU-s per million':>18}{'share':>8}")
    for step, seconds in steps.items():
        print(f"{step:26}{seconds:>18.3f}{seconds / total:>8.1%}")
    print(f"{'sum':26}{total:>18.3f}")
