"""Every batch job as one function of settings and plain arguments.

The command line, Prefect's flows and tests call these; none of them needs a server. Reports are
plain data. What rewrites or deletes is a dry run unless `apply` is set.
Not here: how each job works (`replay`, `backfill`, `maintain`, `extracts`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from batch.aws.lineage_event import GRACE_MINUTES, BronzeHour
from batch.backfill.claims import Claims, Result, SqliteClaims
from batch.backfill.plan import Chunk, plan_days, scope_of
from batch.backfill.report import BackfillReport
from batch.backfill.report import Progress as BackfillProgress
from batch.backfill.run import run_backfill
from batch.extracts import ExtractRequest
from batch.extracts.choose import open_extractor
from batch.extracts.landing import check_names, land_extract
from batch.gold.build import build_gold as build
from batch.gold.dbt_process import Progress as GoldProgress
from batch.gold.docs import read_page
from batch.gold.report import GoldReport
from batch.maintain.compact import CompactReport, Progress, compact_table, tables_of
from batch.maintain.expire import ExpireReport
from batch.maintain.expire import expire_snapshots as expire_table
from batch.maintain.orphan_parts import extract_sources, remove_orphan_parts
from batch.maintain.orphans import remove_orphans as remove_orphans_of
from batch.maintain.retention import RetentionReport
from batch.maintain.retention import apply_retention as apply_retention_to
from batch.maintain.sweep import OrphanReport
from batch.maintain.unnamed import HourReport
from batch.maintain.unnamed import find_unnamed as find_unnamed_in
from batch.replay.from_extract import replay_extracts
from batch.replay.from_stream import StreamSource
from batch.replay.into_table import replay_into
from batch.replay.recorded import replay_recorded
from batch.replay.report import ReplayReport
from batch.replay.reprocess import BronzeSource
from batch.replay.reprocess import Progress as ReplayProgress
from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError
from stream.feeds import load_feed
from stream.lake.connect import Lake, connect_lake
from stream.settings import Settings
from stream.sources.extract import Manifest, PartRef, find_manifest, list_runs, read_manifest

LEASE_SECONDS = {"sqlite": 60.0, "dynamodb": 300.0}


def extract(
    settings: Settings,
    source: str,
    request: ExtractRequest,
    run_id: str,
    *,
    path: str | None = None,
    mapping: Path | None = None,
    progress: Callable[[PartRef], None] = lambda _: None,
    clock: Clock = SYSTEM_CLOCK,
) -> Manifest:
    """Pull an extract and land it in Bronze; a run that landed before is returned as it is."""
    check_names(source, run_id)
    lake = connect_lake(settings)
    with open_extractor(
        settings, source, request.dataset, path=path, mapping=mapping, clock=clock
    ) as extractor:
        return land_extract(lake.store, extractor, request, run_id, clock=clock, progress=progress)


def list_extracts(settings: Settings) -> list[Manifest]:
    """Every finished extract, newest last."""
    store = connect_lake(settings).store
    found = [read_manifest(store, key.source, key.run_id) for key in list_runs(store)]
    return sorted((m for m in found if m), key=lambda m: (m.extracted_ms, m.run_id))


def replay(
    settings: Settings,
    feed: str,
    from_ms: int | None = None,
    to_ms: int | None = None,
    *,
    source: str = "bronze",
    run_id: str | None = None,
    into: str | None = None,
    apply: bool = False,
    progress: ReplayProgress = lambda _done, _total: None,
    clock: Clock = SYSTEM_CLOCK,
) -> ReplayReport:
    """Replay a range of arrivals, or an extract, through the live dataflow (see `batch.replay`).

    Args: source: "bronze", "kinesis" or "extract" (then `run_id`, and no range). into: a table
    beside the live one.

    Raises: ConfigError (arguments that do not fit, nothing arrived then, no such extract).
    """
    contract, lake = load_feed(feed), connect_lake(settings)
    if source == "extract":
        if run_id is None or into is not None or from_ms is not None or to_ms is not None:
            raise ConfigError("an extract is replayed whole: give its run id, no range, no table")
        manifest = find_manifest(lake.store, run_id)
        return replay_extracts(
            settings, lake, contract, [manifest], apply=apply, progress=progress, clock=clock
        )
    if from_ms is None or to_ms is None or from_ms >= to_ms:
        raise ConfigError("the range is empty: give a start that lies before its end")
    span = (from_ms, to_ms)
    if into is not None:
        if source != "bronze":
            raise ConfigError("another table is filled from Bronze: leave the source out")
        return replay_into(
            settings, lake, contract, span, into, apply=apply, progress=progress, clock=clock
        )
    if source not in ("bronze", "kinesis"):
        raise ConfigError(f"source {source!r}: expected bronze, kinesis or extract")
    return replay_recorded(
        settings,
        lake,
        contract,
        span,
        BronzeSource(lake.store) if source == "bronze" else _stream(settings, feed, clock),
        apply=apply,
        progress=progress,
        clock=clock,
    )


def backfill(
    settings: Settings,
    *,
    source: str,
    dataset: str,
    first_day: date,
    last_day: date,
    parallel_days: int = 8,
    chunk_days: int = 1,
    symbols: tuple[str, ...] = (),
    options: Mapping[str, str] | None = None,
    version: int = 1,
    path: str | None = None,
    mapping: Path | None = None,
    owner: str | None = None,
    progress: Callable[[BackfillProgress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Clock = SYSTEM_CLOCK,
) -> BackfillReport:
    """Extract a range of days in chunks and land them: shared, resumable, each day once.

    Args: owner: names this run; started again under the same name it takes its own chunks back.

    Raises: ConfigError (arguments, no such source). A chunk's failure is in the report.
    """
    lake = connect_lake(settings)
    scope = scope_of(symbols, {**(options or {}), **({"path": path} if path else {})})
    chunks = plan_days(
        source,
        dataset,
        first_day,
        last_day,
        chunk_days=chunk_days,
        version=version,
        scope=scope,
        clock=clock,
    )
    with (
        open_extractor(
            settings, source, dataset, path=path, mapping=mapping, clock=clock
        ) as extractor,
        _open_claims(settings, clock) as claims,
    ):
        extractor.feed_of(dataset)  # a wrong name fails before anything is claimed

        def fetch(chunk: Chunk) -> Manifest:
            request = ExtractRequest(
                dataset, chunk.first_day, chunk.last_day, symbols, dict(options or {})
            )
            return land_extract(lake.store, extractor, request, chunk.run_id, clock=clock)

        return run_backfill(
            claims,
            chunks,
            fetch,
            lambda ready: _land(settings, lake, ready, clock),
            owner=owner or f"process-{os.getpid()}-{now_ms(clock)}",
            parallel_days=parallel_days,
            lease_seconds=LEASE_SECONDS[settings.claims],
            clock=clock,
            progress=progress,
            should_stop=should_stop,
        )


def compact(
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    first_day: date | None = None,
    last_day: date | None = None,
    days: Collection[date] | None = None,
    target_bytes: int | None = None,
    apply: bool = False,
    progress: Progress = lambda _table, _done, _total: None,
    clock: Clock = SYSTEM_CLOCK,
) -> list[CompactReport]:
    """Compact small files, by default of all days before today, of all tables."""
    lake = connect_lake(settings)
    size = {} if target_bytes is None else {"target_bytes": target_bytes}
    return [
        compact_table(
            lake,
            table,
            region=settings.region,
            first_day=first_day,
            last_day=last_day,
            days=days,
            apply=apply,
            progress=progress,
            clock=clock,
            **size,
        )
        for table in tables_of(lake, tables)
    ]


def expire_snapshots(
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    keep_hours: float = 1.25,
    keep_last: int = 10,
    apply: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> list[ExpireReport]:
    """Expire old snapshots; their files stay until they are orphans."""
    lake = connect_lake(settings)
    return [
        expire_table(
            lake, table, keep_hours=keep_hours, keep_last=keep_last, apply=apply, clock=clock
        )
        for table in tables_of(lake, tables)
    ]


def remove_orphans(
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    grace_hours: float = 72.0,
    apply: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> list[OrphanReport]:
    """Delete objects that no snapshot and no ledger entry needs any more; without `tables` also
    parts of extracts that never finished.
    """
    lake = connect_lake(settings)
    reports = [
        remove_orphans_of(lake, table, grace_hours=grace_hours, apply=apply, clock=clock)
        for table in tables_of(lake, tables)
    ]
    if not tables:
        reports += [
            remove_orphan_parts(lake, source, grace_hours=grace_hours, apply=apply, clock=clock)
            for source in extract_sources(lake)
        ]
    return reports


def find_unnamed(
    settings: Settings,
    hours: Sequence[BronzeHour],
    *,
    grace_minutes: int = GRACE_MINUTES,
    clock: Clock = SYSTEM_CLOCK,
) -> list[HourReport]:
    """Objects in hours of Bronze that no commit and no manifest names (see `maintain.unnamed`)."""
    lake = connect_lake(settings)
    return find_unnamed_in(lake, hours, grace_minutes=grace_minutes, clock=clock)


def apply_retention(
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    keep_days: int | None = None,
    apply: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> list[RetentionReport]:
    """Drop days that tables need not keep (by default the setting's), and close ended shards."""
    lake = connect_lake(settings)
    days = settings.keep_days if keep_days is None else keep_days
    return [
        apply_retention_to(lake, table, keep_days=days, apply=apply, clock=clock)
        for table in tables_of(lake, tables)
    ]


def build_gold(
    settings: Settings,
    *,
    target: str = "local",
    is_full: bool = False,
    days: Sequence[date] = (),
    select: str | None = None,
    progress: GoldProgress = lambda _begun, _total, _what: None,
    clock: Clock = SYSTEM_CLOCK,
) -> GoldReport:
    """Bring Gold up to date with Silver, audit it and publish it (see `batch.gold.build`)."""
    return build(
        settings,
        target=target,
        is_full=is_full,
        days=days,
        select=select,
        progress=progress,
        clock=clock,
    )


def gold_docs(settings: Settings, *, target: str = "local") -> bytes:
    """The page that documents the published build of Gold, made if it is not there yet."""
    return read_page(settings, target)


def _land(
    settings: Settings, lake: Lake, ready: Sequence[tuple[Chunk, Manifest]], clock: Clock
) -> list[Result]:
    """Land several chunks' extracts in one go; those of no feed stay in Bronze."""
    manifests = [manifest for _, manifest in ready]
    feed = manifests[0].feed
    rows = {manifest.run_id: manifest.rows for manifest in manifests}
    if feed is not None:
        report = replay_extracts(
            settings, lake, load_feed(feed), manifests, apply=True, clock=clock
        )
        rows = report.rows_by_shard
    return [{"rows": rows[m.run_id], "items": m.rows, "run_id": m.run_id} for m in manifests]


def _stream(settings: Settings, feed: str, clock: Clock) -> StreamSource:
    from stream.sources.choose import open_reader  # noqa: PLC0415 - the SDK, for those who ask

    return StreamSource(open_reader(settings, feed), clock)


@contextmanager
def _open_claims(settings: Settings, clock: Clock) -> Iterator[Claims]:
    if settings.claims == "sqlite":
        with SqliteClaims(settings.home / "claims.db", clock) as claims:
            yield claims
        return
    from batch.aws.claim_table import DynamoClaims  # noqa: PLC0415 - the SDK, for those who ask

    yield DynamoClaims(settings.claims_table, clock, region=settings.region)
