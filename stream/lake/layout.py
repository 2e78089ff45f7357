"""Every object key of the lake, built and parsed. Pure: no I/O, no clock.

A key is a typed value: `BronzeKey(...).path` builds it, `BronzeKey.parse(path)` reads it back,
and both directions are property-tested. Nothing else in the platform puts a key together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

from stream.clock import to_utc
from stream.shard import SEQUENCE_DIGITS, ShardRef, pad_sequence

_DAY = r"year=(?P<year>\d{4})/month=(?P<month>\d\d)/day=(?P<day>\d\d)"
_STREAM_SHARD = r"(?P<stream>[A-Za-z0-9_.-]+\.[0-9a-f]{8})-(?P<shard>[A-Za-z0-9_.-]+)"
_SEQUENCE = rf"\d{{{SEQUENCE_DIGITS}}}"
_SOURCE = r"[a-z][a-z0-9_]*"
_RUN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}"


BRONZE = "bronze/"
"""The folder with one `source=` folder per feed and per source of extracts."""
GOLD = "gold/"
"""The folder with the records of Gold's builds and, on Athena, its tables."""
QUERY_RESULTS = "athena-results/"
"""The folder with what Athena leaves of each statement."""
ZONES: Mapping[str, str] = {
    "bronze": "bronze",
    "gold": "gold",
    "dbt-artifacts": "artifacts",
    "athena-results": "artifacts",
}
"""Top folder → zone, of what the setting `<zone>_lake` may put into a bucket of its own. All other
folders lie in the lake itself: Silver, quarantine, ledgers and closed shards are one truth."""
TRANSIENT = frozenset({"athena-results"})
"""Top folders of which nothing is read again."""


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

    @classmethod
    def of_rewrite(cls, table: str, day: date, digest: str) -> Self:
        """The file that holds rows of many slices, rewritten by maintenance or a replay."""
        return cls(table, day, "rewritten", digest[:16])

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
class ExtractPartKey:
    """One part of an extract, in the format that its source gave. `suffix` is "json", "jsonl",
    "jsonl.gz", "csv", "csv.gz" or "parquet"; the place in time is the extract's, not the data's.
    """

    source: str
    run_id: str
    extracted_ms: int
    batch: int
    suffix: str

    @property
    def path(self) -> str:
        at = to_utc(self.extracted_ms * 1_000_000)
        return (
            f"bronze/source={self.source}/{day_path(at.date())}/hour={at.hour:02d}/"
            f"run_id={self.run_id}/{self.extracted_ms:013d}_{self.batch:06d}.{self.suffix}"
        )

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a key back; ValueError if it is not an extract part's key."""
        found = _match(
            rf"bronze/source=(?P<source>{_SOURCE})/{_DAY}/hour=(?P<hour>\d\d)/"
            rf"run_id=(?P<run>{_RUN})/(?P<ms>\d{{13}})_(?P<batch>\d{{6}})\."
            r"(?P<suffix>json|jsonl|jsonl\.gz|csv|csv\.gz|parquet)",
            path,
        )
        key = cls(
            found["source"], found["run"], int(found["ms"]), int(found["batch"]), found["suffix"]
        )
        if key.path != path:
            raise ValueError(f"{path!r}: its folders are not those of its time {key.path!r}")
        return key


@dataclass(frozen=True, slots=True)
class ExtractManifestKey:
    """The manifest that makes an extract one. Its place depends on the run alone: whoever of two
    attempts writes it first decides which parts are the extract.
    """

    source: str
    run_id: str

    @property
    def path(self) -> str:
        return f"{self.prefix(self.source)}{self.run_id}.json"

    @staticmethod
    def prefix(source: str) -> str:
        """All manifests of a source."""
        return f"bronze/source={source}/manifest/"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a key back; ValueError if it is not a manifest's key."""
        pattern = rf"bronze/source=(?P<source>{_SOURCE})/manifest/(?P<run>{_RUN})\.json"
        found = _match(pattern, path)
        return cls(found["source"], found["run"])


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


def silver_folder(table: str) -> str:
    """The folder of a table of Silver: its data and Iceberg's metadata.

    >>> silver_folder("trades")
    'silver/entity=trades'
    """
    return f"silver/entity={table}"


def derived_folder(namespace: str, table: str) -> str:
    """The folder of a table that a build of Gold writes for itself.

    >>> derived_folder("ledger", "commits")
    'gold/ledger/commits'
    """
    return f"{GOLD}{namespace}/{table}"


def ledger_number(path: str) -> int | None:
    """The number of the entry that a path under the ledger names; None for a foreign object."""
    try:
        return LedgerKey.parse(path).number
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class ClosedShardKey:
    """The end position of a shard that no longer travels in the table property."""

    feed: str
    stream: str
    shard: str

    @property
    def path(self) -> str:
        return f"closed/feed={self.feed}/{self.stream}/{self.shard}.json"

    @staticmethod
    def prefix(feed: str, stream: str | None = None) -> str:
        """All closed shards of a feed, or those of one life of a stream."""
        return f"closed/feed={feed}/{stream}/" if stream else f"closed/feed={feed}/"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a key back; ValueError if it is not one of a closed shard."""
        found = _match(
            r"closed/feed=(?P<feed>[a-z0-9_]+)/(?P<stream>[A-Za-z0-9_.-]+)/"
            r"(?P<shard>[A-Za-z0-9_.-]+)\.json",
            path,
        )
        return cls(found["feed"], found["stream"], found["shard"])


@dataclass(frozen=True, slots=True)
class GoldBuildKey:
    """The record of one published build of Gold. Whoever writes number n first has published n."""

    target: str
    number: int

    @property
    def path(self) -> str:
        return f"{self.prefix(self.target)}{self.number:08d}.json"

    @staticmethod
    def prefix(target: str) -> str:
        """All builds of a target, in order."""
        return f"gold/target={target}/builds/"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a key back; ValueError if it is not one of a build."""
        found = _match(r"gold/target=(?P<target>[a-z]+)/builds/(?P<number>\d{8})\.json", path)
        return cls(found["target"], int(found["number"]))


@dataclass(frozen=True, slots=True)
class DbtArtifactKey:
    """What dbt leaves behind (`manifest.json`, ...): of one build, or of the published one."""

    target: str
    name: str
    build: int | None = None

    @property
    def path(self) -> str:
        place = "" if self.build is None else f"builds/{self.build:08d}/"
        return f"dbt-artifacts/{self.target}/{place}{self.name}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read a key back; ValueError if it is not one of an artifact."""
        found = _match(
            r"dbt-artifacts/(?P<target>[a-z]+)/(builds/(?P<build>\d{8})/)?"
            r"(?P<name>[A-Za-z0-9_-]+\.[a-z]+)",
            path,
        )
        build = found["build"]
        return cls(found["target"], found["name"], int(build) if build else None)


def _match(pattern: str, path: str) -> re.Match[str]:
    found = re.fullmatch(pattern, path, re.ASCII)  # \d: only the digits that we write
    if found is None:
        raise ValueError(f"{path!r} is not a key of this kind (expected {pattern})")
    return found


def _day(found: re.Match[str]) -> date:
    return date(int(found["year"]), int(found["month"]), int(found["day"]))
