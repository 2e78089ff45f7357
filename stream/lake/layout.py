"""Every object key of the lake, built and parsed. Pure: no I/O, no clock.

A key is a typed value: `BronzeKey(...).path` builds it, `BronzeKey.parse(path)` reads it back,
and both directions are property-tested. Nothing else in the platform puts a key together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

from stream.clock import to_utc
from stream.slices import SEQUENCE_DIGITS, ShardRef, pad_sequence

_DAY = r"year=(?P<year>\d{4})/month=(?P<month>\d\d)/day=(?P<day>\d\d)"
_STREAM_SHARD = r"(?P<stream>[A-Za-z0-9_.-]+\.[0-9a-f]{8})-(?P<shard>[A-Za-z0-9_.-]+)"
_SEQUENCE = rf"\d{{{SEQUENCE_DIGITS}}}"


def day_path(day: date) -> str:
    """The Hive-style path of a UTC day.

    >>> day_path(date(2026, 11, 23))
    'year=2026/month=11/day=23'
    """
    return f"year={day.year:04d}/month={day.month:02d}/day={day.day:02d}"


@dataclass(frozen=True, slots=True)
class BronzeKey:
    """The Bronze object of a slice: a function of its shard and its first record alone."""

    shard: ShardRef
    first: str
    day: date
    hour: int

    @classmethod
    def of(cls, shard: ShardRef, first: str, ts_arrival_ns: int) -> Self:
        """The key of the slice that begins with this record."""
        arrival = to_utc(ts_arrival_ns)
        return cls(shard, pad_sequence(first), arrival.date(), arrival.hour)

    @property
    def path(self) -> str:
        return (
            f"bronze/source={self.shard.feed}/{day_path(self.day)}/hour={self.hour:02d}/"
            f"{self.shard.stream}-{self.shard.shard}-{self.first}.parquet"
        )

    @staticmethod
    def prefix(feed: str, hour: datetime | None = None) -> str:
        """All Bronze objects of a feed, or those of one UTC hour."""
        root = f"bronze/source={feed}/"
        return root if hour is None else f"{root}{day_path(hour.date())}/hour={hour.hour:02d}/"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a key back; ValueError if it is not a Bronze key."""
        found = _match(
            rf"bronze/source=(?P<feed>[a-z0-9_]+)/{_DAY}/hour=(?P<hour>\d\d)/"
            rf"{_STREAM_SHARD}-(?P<first>{_SEQUENCE})\.parquet",
            path,
        )
        shard = ShardRef(found["feed"], found["stream"], found["shard"])
        return cls(shard, found["first"], _day(found), int(found["hour"]))


@dataclass(frozen=True, slots=True)
class SilverKey:
    """A Silver data file. `digest` is of its bytes: the same name means the same content."""

    table: str
    day: date
    origin: str
    digest: str

    @classmethod
    def of_slice(cls, shard: ShardRef, last: str, day: date, digest: str) -> Self:
        """The file that holds one slice's rows of one UTC day."""
        return cls(shard.feed, day, f"{shard.shard}-{pad_sequence(last)}", digest[:16])

    @classmethod
    def of_redrive(cls, shard: ShardRef, first: str, day: date, digest: str) -> Self:
        """The file that holds rows of one slice's quarantine, landed later."""
        return cls(shard.feed, day, f"redriven-{shard.shard}-{pad_sequence(first)}", digest[:16])

    @property
    def path(self) -> str:
        return (
            f"silver/entity={self.table}/{day_path(self.day)}/{self.origin}-{self.digest}.parquet"
        )

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a key back; ValueError if it is not a Silver data file's key."""
        found = _match(
            rf"silver/entity=(?P<table>[a-z0-9_]+)/{_DAY}/"
            r"(?P<origin>[A-Za-z0-9_.-]+)-(?P<digest>[0-9a-f]{16})\.parquet",
            path,
        )
        return cls(found["table"], _day(found), found["origin"], found["digest"])


@dataclass(frozen=True, slots=True)
class QuarantineKey:
    """The rejected messages of one slice; `digest` is of the object's bytes."""

    shard: ShardRef
    first: str
    day: date
    digest: str

    @classmethod
    def of(cls, shard: ShardRef, first: str, ts_arrival_ns: int, digest: str) -> Self:
        """The key of a slice's rejects, by arrival day."""
        return cls(shard, pad_sequence(first), to_utc(ts_arrival_ns).date(), digest[:16])

    @property
    def path(self) -> str:
        return (
            f"quarantine/source={self.shard.feed}/{day_path(self.day)}/"
            f"{self.shard.stream}-{self.shard.shard}-{self.first}-{self.digest}.parquet"
        )

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a key back; ValueError if it is not a quarantine key."""
        found = _match(
            rf"quarantine/source=(?P<feed>[a-z0-9_]+)/{_DAY}/"
            rf"{_STREAM_SHARD}-(?P<first>{_SEQUENCE})-(?P<digest>[0-9a-f]{{16}})\.parquet",
            path,
        )
        shard = ShardRef(found["feed"], found["stream"], found["shard"])
        return cls(shard, found["first"], _day(found), found["digest"])


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """One ledger entry. Two writers may write entry n; the table's head names the true one."""

    feed: str
    number: int
    digest: str

    @property
    def path(self) -> str:
        return f"{self.prefix(self.feed)}{self.number:012d}-{self.digest[:16]}.json"

    @staticmethod
    def prefix(feed: str) -> str:
        """All entries of a feed, in order."""
        return f"ledger/feed={feed}/"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a key back; ValueError if it is not a ledger key."""
        found = _match(
            r"ledger/feed=(?P<feed>[a-z0-9_]+)/(?P<number>\d{12})-(?P<digest>[0-9a-f]{16})\.json",
            path,
        )
        return cls(found["feed"], int(found["number"]), found["digest"])


def _match(pattern: str, path: str) -> re.Match[str]:
    found = re.fullmatch(pattern, path)
    if found is None:
        raise ValueError(f"{path!r} is not a key of this kind (expected {pattern})")
    return found


def _day(found: re.Match[str]) -> date:
    return date(int(found["year"]), int(found["month"]), int(found["day"]))
