"""Try again what may succeed later, and stop when somebody asks: for work that takes hours.

Waits are bounded and end early when the work is to stop. Not here: what counts as "may succeed
later" (`stream.errors.RetryableError`), a source's own pace and retries (`extracts`).
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from stream.clock import Clock
from stream.errors import RetryableError

log = logging.getLogger(__name__)
R = TypeVar("R")

BACK_OFF_SECONDS = (1.0, 5.0, 20.0)
"""Pauses before a call is made again; after the last it has failed."""
STEP_SECONDS = 0.2


def call_patiently(
    call: Callable[[], R], clock: Clock, should_stop: Callable[[], bool] = lambda: False
) -> R:
    """Call until it succeeds; the last RetryableError is raised when patience or time is over."""
    for seconds in BACK_OFF_SECONDS:
        try:
            return call()
        except RetryableError as error:
            if should_stop():
                raise
            log.warning("trying again in %.0f s: %s", seconds, error)
        sleep_until(seconds, clock, should_stop)
    return call()


def sleep_until(seconds: float, clock: Clock, should_stop: Callable[[], bool]) -> None:
    """Sleep, in steps, until the time is over or the work is to stop."""
    while seconds > 0 and not should_stop():
        step = min(seconds, STEP_SECONDS)
        clock.sleep(step)
        seconds -= step


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM become a `should_stop` inside this block; a second one interrupts.

    Signals belong to the main thread: in any other nothing changes and the answer stays False.
    """
    seen = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if seen.is_set():
            signal.default_int_handler(number, frame)
        seen.set()

    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
