"""How long a server asks to be left alone: the Retry-After header of HTTP (RFC 9110, 10.2.3)."""

from __future__ import annotations

import contextlib
from datetime import UTC
from email.utils import parsedate_to_datetime

from stream.clock import Clock


def read_retry_after(text: str, clock: Clock) -> float:
    """Seconds that a Retry-After header asks for: a number or an HTTP date; 0 for anything else.

    >>> from stream.clock import ManualClock
    >>> clock = ManualClock(start_ns=1_445_412_480_000_000_000)
    >>> [read_retry_after(text, clock) for text in ("7", "Wed, 21 Oct 2015 07:28:30 GMT", "soon")]
    [7.0, 30.0, 0.0]
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - clock.now_ns() / 1e9)
    return 0.0
