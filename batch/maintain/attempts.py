"""Repeat a commit that lost its race: 30 attempts, with pauses that grow and differ.

The stream commits all the time, so maintenance loses races as a rule; what it plans anew is
metadata alone. A committer at 5 commits a second starves a job that does not wait longer each time.
Not here: commits that go through a feed's ledger, which has its own loop (`stream.lake.ledger`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from stream.clock import Clock
from stream.errors import CommitConflictError, RetryableError

MAX_ATTEMPTS = 30
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.28

Answer = TypeVar("Answer")


def until_landed(attempt: Callable[[], Answer], clock: Clock, what: str) -> Answer:
    """Call `attempt` until it does not lose: it must look at fresh state every time.

    Raises: CommitConflictError after 30 attempts; whatever a person must see, at once.
    """
    for number in range(MAX_ATTEMPTS):
        try:
            return attempt()
        except RetryableError as error:
            last = error
            clock.sleep(_pause_seconds(number, clock))
    raise CommitConflictError(
        f"{what}: {MAX_ATTEMPTS} attempts in a row failed, nothing was changed. Is another writer "
        f"stuck in a loop, or the store down? The last one said: {last}"
    )


def _pause_seconds(number: int, clock: Clock) -> float:
    """Between nothing and a bound that doubles. Two that lost to one another see their clocks at
    different microseconds, and that tells them apart.
    """
    longest = min(FIRST_PAUSE_SECONDS * (1 << number), LONGEST_PAUSE_SECONDS)
    return longest * (clock.now_ns() // 1_000 % 1_000) / 1_000
