"""The coordinator `kcl`: kcl_rs, the Kinesis Client Library's port to Rust, in this process.

It shares the stream's shards among workers by its lease table in DynamoDB (the same tables and
rules as the Java library's), reads them by polling, and calls a processor per owned shard from
threads of its own. It calls with records only, so windows that went quiet are cut by a tick.
"""

from __future__ import annotations

import importlib
import logging
import threading
from datetime import datetime
from typing import Any

from stream.archive.place import ArchivePlace
from stream.archive.processor import ArchiveRun, Dialect, RecordProcessor
from stream.archive.shard import ArchiveTally
from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError, FatalError, StoreUnavailableError
from stream.settings import Settings

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
NEW_SHARDS_MS = 10_000
"""How often shards are listed: a split's children are found so soon."""


def archive_with_kcl(
    settings: Settings,
    feed: str,
    run: ArchiveRun,
    *,
    worker: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ArchiveTally:
    """Archive a feed's stream until `run.stopping` is set; returns what was archived.

    Raises: ConfigError (library or stream missing), FatalError (a person is needed),
    StoreUnavailableError (the library gave up: a restart will do).
    """
    library = load_library()
    place = ArchivePlace(settings, feed)
    processors: list[RecordProcessor] = []

    def new_processor() -> RecordProcessor:
        processors.append(
            RecordProcessor(
                place,
                run,
                Dialect(arrival_seconds, library.CheckpointError),
                grace_ms=settings.grace_ms,
                poll_ms=settings.archive_poll_ms,
                clock=clock,
            )
        )
        return processors[-1]

    scheduler = library.Scheduler(
        stream_name=settings.stream_name(feed),
        application_name=f"{settings.archive_prefix}{feed}",
        record_processor_factory=new_processor,
        worker_identifier=worker,
        region=settings.region,
        initial_position="TRIM_HORIZON",
        retrieval_mode="POLLING",
        idle_time_between_reads_millis=settings.archive_poll_ms,
        shard_sync_interval_millis=NEW_SHARDS_MS,
    )
    _drive(scheduler, run, processors)
    if run.failure is not None:
        raise run.failure
    return place.tally


def load_library() -> Any:
    """The module kcl_rs. Raises: ConfigError saying how to install it."""
    try:
        return importlib.import_module("kcl_rs")
    except ImportError as error:
        raise ConfigError(
            f"the coordinator `kcl` needs the package kcl-rs, which is not installed ({error}). "
            "Install the extra: `pip install 'headrace[kcl]'`."
        ) from error


def _drive(scheduler: Any, run: ArchiveRun, processors: list[RecordProcessor]) -> None:
    """Run the library in a thread and tick until one of both ends."""
    thread = threading.Thread(target=_run_library, args=(scheduler, run), name="kcl")
    thread.start()
    while not run.stopping.wait(TICK_SECONDS):
        for processor in list(processors):
            processor.tick()
        processors[:] = [p for p in processors if not p.is_over]
    scheduler.shutdown()
    thread.join()


def _run_library(scheduler: Any, run: ArchiveRun) -> None:
    try:
        scheduler.run()
    except RuntimeError as error:
        run.fail(StoreUnavailableError(f"the client library ended: {error}; start it again"))
    finally:
        run.stopping.set()


def arrival_seconds(record: Any) -> float:
    """When the service took a record. Raises: FatalError for a time finer than a millisecond.

    The library cuts the service's float down to microseconds: 0.597 s may come as 0.596999. Whole
    milliseconds, which is what AWS tells, are restored; finer times cannot be, and a Bronze object
    with them would not be the road's.
    """
    arrival: datetime = record.approximate_arrival_timestamp
    rest = arrival.microsecond % 1000
    if rest not in {0, 999}:
        raise FatalError(
            f"record {record.sequence_number} arrived at {arrival.isoformat()}: the stream tells "
            "times finer than a millisecond, which the client library does not keep exactly. AWS "
            "tells milliseconds; of the emulators, set AWS_ENDPOINT_URL_KINESIS to one that does "
            "(kinesis-local)."
        )
    return float((record.timestamp_millis + (rest == 999)) / 1000)
