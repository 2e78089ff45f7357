"""Local times to UTC: how far a zone's clocks are from UTC at a local second, and on a local day.

Days are counted in local time, seconds since 1970 as if the local time were UTC. The zone rules
are those of the IANA data base (`zoneinfo`); a zone's past is stable across its versions.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY_SECONDS = 86_400
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local time, the zone is what is asked for


def local_offsets(zone: str, local_seconds: int) -> tuple[int, int]:
    """Seconds east of UTC, before and after a change of the clocks; mostly the same twice.

    Where they differ, the local time happens twice (the first is greater) or never.

    >>> local_offsets("America/New_York", 1_767_605_400)  # 2026-01-05 09:30
    (-18000, -18000)
    """
    moment = (_EPOCH + timedelta(seconds=local_seconds)).replace(tzinfo=ZoneInfo(zone))
    first, second = moment.utcoffset(), moment.replace(fold=1).utcoffset()
    assert first is not None
    assert second is not None
    return int(first.total_seconds()), int(second.total_seconds())


@lru_cache(maxsize=65_536)
def day_offset(zone: str, day: int) -> int | None:
    """The offset that holds on the whole local day; None on a day when the clocks change.

    >>> day_offset("America/New_York", 20_458), day_offset("America/New_York", 20_520)
    (-18000, None)
    """
    begin, end = (local_offsets(zone, at * DAY_SECONDS) for at in (day, day + 1))
    return begin[0] if len({*begin, *end}) == 1 else None
