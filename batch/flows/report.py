"""What a flow leaves behind on the Prefect server: tables, a progress bar, events, a memory.

A table artifact answers "what did it do" without reading logs; an event tells the next flow or an
automation, by a name that is never changed: automations in deploy/prefect match on these names.
Not here: the figures themselves (the reports of `batch.actions`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
from prefect.artifacts import (
    acreate_table_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event
from prefect.variables import Variable

from batch.backfill.report import Progress
from stream.clock import SYSTEM_CLOCK, Clock

BACKFILL_COMPLETED = "headrace.backfill.completed"
SILVER_COMPACTED = "headrace.silver.compacted"
STREAM_HEALTHY = "headrace.stream.healthy"
STREAM_LAGGING = "headrace.stream.lagging"
HOUR_CLOSED = "headrace.silver.hour-closed"
BRONZE_UNNAMED = "headrace.bronze.unnamed"
GOLD_PUBLISHED = "headrace.gold.published"
GOLD_REJECTED = "headrace.gold.rejected"

PROGRESS_SECONDS = 2.0

log = logging.getLogger(__name__)


def write_table(key: str, rows: Iterable[Mapping[str, Any]], description: str) -> None:
    """Keep rows as a table artifact; `key` gathers the tables of one flow over its runs."""
    create_table_artifact(table=_as_table(rows), key=build_key(key), description=description)


async def write_table_async(key: str, rows: Iterable[Mapping[str, Any]], description: str) -> None:
    """`write_table` for asynchronous flows: Prefect tells them apart, even in a thread."""
    table = _as_table(rows)
    await acreate_table_artifact(table=table, key=build_key(key), description=description)


def build_key(text: str) -> str:
    """As Prefect wants keys of artifacts: lower case letters, digits and dashes.

    >>> build_key("replay-prices_daily"), build_key("backfill-Tick.Vendor")
    ('replay-prices-daily', 'backfill-tick-vendor')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def announce(
    event: str, subject: str, payload: Mapping[str, Any], identity: str | None = None
) -> None:
    """Emit an event about `headrace.<subject>`. The server keeps one of those with one identity."""
    resource = {
        "prefect.resource.id": f"headrace.{subject}",
        "prefect.resource.name": subject.rpartition(".")[2],
    }
    plain = {name: _plain_tree(value) for name, value in payload.items()}
    known_as = uuid5(NAMESPACE_URL, f"{event}/{subject}/{identity}") if identity else None
    emit_event(event, resource, payload=plain, id=known_as)


async def recall(name: str) -> str | None:
    """What was remembered under a name on the server; None if nothing was."""
    value = await Variable.aget(name)
    return value if isinstance(value, str) else None


async def remember(name: str, value: str) -> None:
    """Keep a text on the server, for the next run. Untagged: it is no declared variable."""
    await Variable.aset(name, value, overwrite=True)


class ProgressBar:
    """A progress artifact of the running flow: written now and then, and exactly at its end."""

    def __init__(self, description: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._id: Any = create_progress_artifact(
            progress=0.0, key="backfill-progress", description=description
        )
        self._written_at = clock.monotonic()

    def show(self, progress: Progress) -> None:
        """Note how far a backfill is."""
        is_last = progress.done >= progress.planned
        if not is_last and self._clock.monotonic() - self._written_at < PROGRESS_SECONDS:
            return  # a chunk may take milliseconds, a call to the server takes ten
        self._written_at = self._clock.monotonic()
        percent = 100.0 * progress.done / progress.planned if progress.planned else 100.0
        try:
            update_progress_artifact(self._id, progress=percent, description=str(progress))
        except httpx.HTTPError as error:  # a restarting server must not end hours of work
            log.warning("progress (%s) was not written: %s", progress, error)


def _as_table(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """As a table cell: numbers and texts stay, everything else becomes its text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _plain_tree(value: Any) -> Any:
    is_list = isinstance(value, list | tuple)
    return [_plain(item) for item in value] if is_list else _plain(value)
