"""Times as the API reads and writes them: ISO 8601 in, nanoseconds kept exactly. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

DAY_NS = 86_400_000_000_000

TIME_PATTERN = (
    r"^(19[7-9][0-9]|20[0-9][0-9]|21[0-9][0-9])-[0-1][0-9]-[0-3][0-9]"
    r"(T[0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?(Z|[+-][0-1][0-9]:[0-5][0-9])?)?$"
)
DAY_PATTERN = r"^(19[7-9][0-9]|20[0-9][0-9]|21[0-9][0-9])-[0-1][0-9]-[0-3][0-9]$"
_PARTS = re.compile(
    r"(?P<clock>[0-9:]+)(\.(?P<fraction>[0-9]{1,9}))?(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time_ns(text: str) -> int:
    """Nanoseconds since 1970 of an ISO time; without a zone it is UTC, without a time midnight.

    Raises: ValueError if there is no such moment.

    >>> parse_time_ns("1970-01-02"), parse_time_ns("1970-01-01T00:00:00.000000001Z")
    (86400000000000, 1)
    >>> parse_time_ns("1970-01-01T01:00+01:00")
    0
    """
    if "T" not in text:
        return parse_day_ns(text)
    day, _, rest = text.partition("T")
    parts = _PARTS.fullmatch(rest)
    if parts is None:
        raise ValueError(f"{text!r} is no ISO time")
    zone = (parts["zone"] or "Z").replace("Z", "+00:00")
    moment = datetime.fromisoformat(f"{day}T{parts['clock']}{zone}")
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + int((parts["fraction"] or "0").ljust(9, "0"))


def parse_day_ns(text: str) -> int:
    """Midnight UTC of a day. Raises: ValueError.

    >>> parse_day_ns("1970-01-03") // DAY_NS
    2
    """
    return (date.fromisoformat(text) - _EPOCH.date()).days * DAY_NS


def format_time(timestamp_ns: int) -> str:
    """ISO 8601 in UTC with nine decimals: exact.

    >>> format_time(1)
    '1970-01-01T00:00:00.000000001Z'
    """
    seconds, rest = divmod(timestamp_ns, 1_000_000_000)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def sql_time(timestamp_ns: int) -> str:
    """As SQL reads a timestamp of microseconds, rounded down.

    >>> sql_time(1_999)
    '1970-01-01 00:00:00.000001'
    """
    moment = _EPOCH + timedelta(microseconds=timestamp_ns // 1000)
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"
