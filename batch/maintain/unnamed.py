"""Name what lies in Bronze and nothing names: a slice no commit, a part of an extract no manifest.

    list the hours ─▶ read the ledger back to them, and the manifests ─▶ named | waiting | unnamed

Objects are listed first, so what is committed meanwhile is named and never accused. Why a slice is
unnamed follows from its shard's committed position: ahead of it, the commit is stalled; at or below
it, the ledger went past, and no commit will name it any more. An extract is judged by its youngest
part: its manifest comes last. Read only; no object is fetched.
Not here: deleting (`orphan_parts`; slices are Bronze for ever), telling the remnant of a lost race
from a foreign object, which takes their bytes (`stream.prove`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from batch.aws.lineage_event import GRACE_MINUTES, BronzeHour
from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError, FatalError
from stream.lake.connect import Lake
from stream.lake.layout import BronzeKey, ExtractPartKey
from stream.lake.store import ObjectInfo
from stream.prove.chain import Chain
from stream.prove.proof import Proof
from stream.slices import ShardPosition, is_after
from stream.sources.extract import read_manifest

MARGIN_MS = 3_600_000
"""Kinesis' clock, which names the hour of a slice, and ours, which dates its commit, differ."""
MAX_GRACE_MINUTES = 31 * 24 * 60

Verdict = Literal["named", "waiting", "stalled", "orphan", "unfinished", "stray"]
UNNAMED: tuple[Verdict, ...] = ("stalled", "orphan", "unfinished", "stray")


@dataclass(frozen=True, slots=True)
class Unnamed:
    """An object that nothing names after the grace.

    `why`: "stalled" (its dataflow has not committed it), "orphan" (its ledger went past it),
    "unfinished" (its extract has no manifest, or another attempt's), "stray" (no key of ours).
    """

    why: Verdict
    path: str
    bytes: int
    age_ms: int


@dataclass(frozen=True, slots=True)
class HourReport:
    """What lies in one hour of one source. `waiting`: unnamed, and younger than the grace."""

    source: str
    hour: datetime
    objects: int
    bytes: int
    named: int
    waiting: int
    unnamed: tuple[Unnamed, ...]

    def to_row(self) -> dict[str, object]:
        """As a row of a table: numbers only, not each path."""
        counts = Counter(item.why for item in self.unnamed)
        oldest = max((item.age_ms for item in self.unnamed), default=0)
        return {
            "source": self.source,
            "hour": self.hour.isoformat(),
            "objects": self.objects,
            "bytes": self.bytes,
            "named": self.named,
            "waiting": self.waiting,
            **{why: counts[why] for why in UNNAMED},
            "oldest_unnamed_minutes": oldest // 60_000,
        }


def find_unnamed(
    lake: Lake,
    hours: Iterable[BronzeHour],
    *,
    grace_minutes: int = GRACE_MINUTES,
    clock: Clock = SYSTEM_CLOCK,
) -> list[HourReport]:
    """Look through hours of Bronze, each once, in order.

    Raises: ConfigError (a grace that is none), FatalError (a damaged ledger or manifest),
    StoreUnavailableError.
    """
    if not 1 <= grace_minutes <= MAX_GRACE_MINUTES:
        raise ConfigError(
            f"grace_minutes is {grace_minutes}; give 1 to {MAX_GRACE_MINUTES}: an object is "
            "written before the commit that names it"
        )
    by_source: dict[str, list[BronzeHour]] = defaultdict(list)
    for place in sorted(set(hours)):
        by_source[place.source].append(place)
    reports = []
    for source, places in by_source.items():
        listed = {place: list(lake.store.list(place.prefix)) for place in places}
        known = _read_known(lake, source, listed)
        before_ms = now_ms(clock) - grace_minutes * 60_000
        reports += [
            _report(place, infos, known, before_ms, clock) for place, infos in listed.items()
        ]
    return reports


@dataclass(slots=True)
class _Known:
    """What names objects of a source: paths, committed positions, the youngest part by attempt."""

    paths: set[str] = field(default_factory=set)
    positions: Mapping[str, ShardPosition] = field(default_factory=dict)
    youngest_ms: dict[tuple[str, int], int] = field(default_factory=dict)


def _read_known(
    lake: Lake, source: str, listed: Mapping[BronzeHour, Sequence[ObjectInfo]]
) -> _Known:
    known = _Known()
    infos = [info for found in listed.values() for info in found]
    parts = list(_parts(infos))
    for run_id in sorted({key.run_id for key, _ in parts}):
        manifest = read_manifest(lake.store, source, run_id)
        known.paths |= {part.path for part in manifest.parts} if manifest else set()
    for key, info in parts:
        attempt = key.run_id, key.extracted_ms
        youngest = known.youngest_ms.get(attempt, 0)
        known.youngest_ms[attempt] = max(youngest, info.last_modified_ms)
    if len(parts) < len(infos) and source in lake.catalog.names():
        earliest = min(place.hour for place in listed)
        since_ms = int(earliest.timestamp() * 1000) - MARGIN_MS
        _read_ledger(lake, source, since_ms, known)
    return known


def _read_ledger(lake: Lake, feed: str, since_ms: int, known: _Known) -> None:
    """Slices that were committed since, and how far every shard is."""
    _, ledger = lake.ledger(feed)
    head = ledger.head()
    known.positions = {**ledger.closed_positions(), **head.positions}
    proof = Proof(feed, None, None)
    for entry in Chain(feed, head, lake.store, proof).walk(since_ms):
        known.paths |= {record.bronze.path for record in entry.slices if record.bronze}
    if proof.differences:
        first = " ".join(str(proof.differences[0]).split())
        raise FatalError(
            f"feed {feed}: its ledger is damaged, so nothing can be said to be unnamed; run "
            f"`headrace prove {feed}`. {first}"
        )


def _parts(infos: Iterable[ObjectInfo]) -> Iterator[tuple[ExtractPartKey, ObjectInfo]]:
    for info in infos:
        with suppress(ValueError):  # a slice, or none of ours
            yield ExtractPartKey.parse(info.path), info


def _report(
    place: BronzeHour, infos: Sequence[ObjectInfo], known: _Known, before_ms: int, clock: Clock
) -> HourReport:
    now = now_ms(clock)
    verdicts = [_judge(info, known, before_ms) for info in infos]
    unnamed = [
        Unnamed(verdict, info.path, info.bytes, now - info.last_modified_ms)
        for verdict, info in zip(verdicts, infos, strict=True)
        if verdict in UNNAMED
    ]
    return HourReport(
        source=place.source,
        hour=place.hour,
        objects=len(infos),
        bytes=sum(info.bytes for info in infos),
        named=verdicts.count("named"),
        waiting=verdicts.count("waiting"),
        unnamed=tuple(sorted(unnamed, key=lambda item: item.path)),
    )


def _judge(info: ObjectInfo, known: _Known, before_ms: int) -> Verdict:
    if info.path in known.paths:
        return "named"
    written_ms, why = info.last_modified_ms, _why_unnamed(info, known)
    if why == "unfinished":
        key = ExtractPartKey.parse(info.path)
        written_ms = known.youngest_ms[key.run_id, key.extracted_ms]
    return "waiting" if written_ms > before_ms else why


def _why_unnamed(info: ObjectInfo, known: _Known) -> Verdict:
    with suppress(ValueError):
        key = BronzeKey.parse(info.path)
        position = known.positions.get(str(key.shard))
        is_ahead = position is None or is_after(key.first, position.sequence_number)
        return "stalled" if is_ahead else "orphan"
    with suppress(ValueError):
        ExtractPartKey.parse(info.path)
        return "unfinished"
    return "stray"
