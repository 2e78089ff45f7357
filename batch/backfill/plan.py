"""Cut a range of days into chunks: the units that a backfill claims, fetches and lands.

Pure: a chunk's key and its run id depend on what it asks for and on nothing else. So a chunk
that runs again lands in the same extract, and whatever is done is found done.
Cuts lie on a fixed grid, not at the range's first day: two ranges that overlap share their
chunks, except those that one of the ranges cuts short. Another `chunk_days` makes other chunks.
Not here: who runs a chunk (`claims`), how (`backfill`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Self

import orjson

from stream.clock import SYSTEM_CLOCK, Clock, to_utc
from stream.errors import ConfigError

FIRST_DAY = date(1900, 1, 1)
MAX_CHUNKS = 10_000
MAX_CHUNK_DAYS = 366
MAX_RUN_ID_CHARS = 120

_SOURCE = r"[a-z][a-z0-9_]*"
_DATASET = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_SCOPE = r"[0-9a-f]{12}"
_DAY = r"\d{4}-\d\d-\d\d"


@dataclass(frozen=True, slots=True, order=True)
class Chunk:
    """Days `first_day` to `last_day` (inclusive, UTC) of one data set of one source.

    `version`: raise it to fetch days again that are done. `scope`: what else the request depends
    on (`scope_of`), so that the same days of other symbols are other chunks.

    >>> Chunk("fmp", "prices_daily", date(2026, 11, 24), date(2026, 11, 24)).key
    'fmp/prices_daily/v1/2026-11-24'
    """

    source: str
    dataset: str
    first_day: date
    last_day: date
    version: int = 1
    scope: str = ""

    @property
    def key(self) -> str:
        """Its name in the claims ledger; keys sort by day within a data set."""
        scope = f"-{self.scope}" if self.scope else ""
        return f"{self.source}/{self.dataset}/v{self.version}{scope}/{self._days}"

    @property
    def run_id(self) -> str:
        """The extract that it lands in (see `stream.lake.layout.ExtractManifestKey`)."""
        scope = f".{self.scope}" if self.scope else ""
        return f"{self.source}-{self.dataset}-v{self.version}{scope}-{self._days}"

    @property
    def days(self) -> list[date]:
        """Its days, in order."""
        count = (self.last_day - self.first_day).days + 1
        return [self.first_day + timedelta(days=number) for number in range(count)]

    @property
    def _days(self) -> str:
        last = f"_{self.last_day}" if self.last_day != self.first_day else ""
        return f"{self.first_day}{last}"

    @classmethod
    def parse(cls, key: str) -> Self:
        """Read a key back; ValueError if it is not a chunk's key."""
        found = re.fullmatch(
            rf"(?P<source>{_SOURCE})/(?P<dataset>{_DATASET})/v(?P<version>[1-9]\d*)"
            rf"(-(?P<scope>{_SCOPE}))?/(?P<first>{_DAY})(_(?P<last>{_DAY}))?",
            key,
        )
        if found is None:
            raise ValueError(f"{key!r} is not a chunk's key (source/dataset/v1/2026-11-24)")
        first = date.fromisoformat(found["first"])
        last = date.fromisoformat(found["last"]) if found["last"] else first
        chunk = cls(
            *(found["source"], found["dataset"], first, last),
            *(int(found["version"]), found["scope"] or ""),
        )
        if chunk.key != key or last < first:
            raise ValueError(f"{key!r} is not how a chunk's key is written")
        return chunk


def plan_days(
    source: str,
    dataset: str,
    first_day: date,
    last_day: date,
    *,
    chunk_days: int = 1,
    version: int = 1,
    scope: str = "",
    clock: Clock = SYSTEM_CLOCK,
) -> list[Chunk]:
    """The chunks of a range of UTC days, both ends included, in order; each day in exactly one.

    The clock only refuses days that are not over. Raises: ConfigError naming every wrong
    argument at once.
    """
    whole = Chunk(source, dataset, first_day, last_day, version, scope)
    _check_plan(whole, chunk_days, to_utc(clock.now_ns()).date())
    chunks, day = [], first_day
    while day <= last_day:
        cut = day + timedelta(days=chunk_days - day.toordinal() % chunk_days - 1)
        chunks.append(replace(whole, first_day=day, last_day=min(cut, last_day)))
        day = chunks[-1].last_day + timedelta(days=1)
    return chunks


def scope_of(symbols: Sequence[str] = (), options: Mapping[str, str] | None = None) -> str:
    """A short digest of what a request asks for besides days; empty if nothing.

    >>> scope_of(["MSFT", "AAPL"]) == scope_of(["AAPL", "MSFT", "AAPL"])
    True
    """
    asked = [sorted(set(symbols)), dict(options or {})]
    digest = hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return digest[:12] if any(asked) else ""


def _check_plan(whole: Chunk, chunk_days: int, today: date) -> None:
    wrong = _wrong_names(whole)
    if not 1 <= chunk_days <= MAX_CHUNK_DAYS:
        wrong.append(f"chunk_days {chunk_days}: expected 1 to {MAX_CHUNK_DAYS}")
    else:
        wrong += _wrong_range(whole.first_day, whole.last_day, chunk_days, today)
    if len(whole.run_id) > MAX_RUN_ID_CHARS:
        wrong.append(
            f"run id {whole.run_id!r} has {len(whole.run_id)} characters, at most "
            f"{MAX_RUN_ID_CHARS} fit: choose a shorter data set name"
        )
    if wrong:
        raise ConfigError("\n".join(wrong))


def _wrong_names(whole: Chunk) -> list[str]:
    wrong = []
    if not re.fullmatch(_SOURCE, whole.source):
        wrong.append(f"source {whole.source!r}: expected lower-case letters, digits and '_'")
    if not re.fullmatch(_DATASET, whole.dataset):
        wrong.append(f"data set {whole.dataset!r}: expected letters, digits, '_', '.' and '-'")
    if whole.version < 1:
        wrong.append(f"version {whole.version}: expected 1 or more")
    if not re.fullmatch(rf"({_SCOPE})?", whole.scope):
        wrong.append(f"scope {whole.scope!r}: expected what `scope_of` gives, or nothing")
    return wrong


def _wrong_range(first_day: date, last_day: date, chunk_days: int, today: date) -> list[str]:
    asked = f"{first_day} to {last_day}"
    if first_day > last_day:
        return [f"{asked}: the first day is after the last; both ends are included"]
    if last_day >= today:
        newest = today - timedelta(days=1)
        return [
            f"{asked}: {max(first_day, today)} is not over (UTC), and a day that is done is never "
            f"fetched again. The newest day to ask for is {newest}."
        ]
    if first_day < FIRST_DAY:
        return [f"{asked}: days before {FIRST_DAY} are taken for a typing error"]
    days = (last_day - first_day).days + 1
    if days // chunk_days > MAX_CHUNKS:
        return [
            f"{asked}: {days:,} days are about {days // chunk_days:,} chunks, at most "
            f"{MAX_CHUNKS:,} make a plan. Split the range or raise the days of a chunk."
        ]
    return []
