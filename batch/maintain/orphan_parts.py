"""Delete parts of extracts that no manifest names: what interrupted attempts left in Bronze.

Only sources that are no feed are looked at, and there only objects whose key is a part's: slices
of a feed are Bronze for ever. An attempt (run id and start) is judged as a whole, by its youngest
part: an extract may run for longer than the grace before its manifest is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from batch.maintain.sweep import (
    GRACE_HOURS,
    MIN_GRACE_HOURS,
    IsNeeded,
    Orphan,
    OrphanReport,
    Progress,
    grace_start_ms,
    no_progress,
    sweep,
)
from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.lake.connect import Lake
from stream.lake.layout import BRONZE, BronzeKey, ExtractPartKey
from stream.lake.store import ObjectInfo, Store
from stream.sources.extract import read_manifest


def extract_sources(lake: Lake) -> tuple[str, ...]:
    """Sources in Bronze that are no feed."""
    found = (folder.removeprefix("source=") for folder in lake.store.list_folders(BRONZE))
    return tuple(source for source in found if source not in load_feeds())


def remove_orphan_parts(
    lake: Lake,
    source: str,
    *,
    grace_hours: float = GRACE_HOURS,
    apply: bool = False,
    clock: Clock = SYSTEM_CLOCK,
    progress: Progress = no_progress,
    min_grace_hours: float = MIN_GRACE_HOURS,
) -> OrphanReport:
    """Delete a source's parts without a manifest; only name them unless `apply`.

    Raises: ConfigError (a feed's name, too short a grace), FatalError (a damaged manifest: nothing
    was deleted), StoreUnavailableError (some may be deleted: run it again).
    """
    before_ms = grace_start_ms(clock, grace_hours, min_grace_hours)
    if source in load_feeds():
        raise ConfigError(f"{source} is a feed: its slices in Bronze are kept for ever")
    parts = _list(lake.store, source)
    progress("parts listed", len(parts))
    runs = sorted({key.run_id for key, _ in parts})
    named = _named(lake.store, source, runs)
    unnamed = [(key, info) for key, info in parts if info.path not in named]
    youngest = _youngest_ms(parts)
    orphans = [
        Orphan("part", info.path, info.bytes)
        for key, info in unnamed
        if youngest[key.run_id, key.extracted_ms] <= before_ms
    ]

    def look_again() -> IsNeeded:
        return _named(lake.store, source, runs).__contains__

    return sweep(
        lake.store,
        f"extracts of {source}",
        [info for _, info in parts],
        orphans,
        waiting=len(unnamed) - len(orphans),
        before_ms=before_ms,
        apply=apply,
        look_again=look_again,
        progress=progress,
    )


def _list(store: Store, source: str) -> list[tuple[ExtractPartKey, ObjectInfo]]:
    found = []
    for info in store.list(BronzeKey.prefix(source)):
        with suppress(ValueError):  # a manifest, or nobody's to delete
            found.append((ExtractPartKey.parse(info.path), info))
    return found


def _named(store: Store, source: str, runs: Sequence[str]) -> set[str]:
    """Parts that a manifest names."""
    manifests = (read_manifest(store, source, run_id) for run_id in runs)
    return {part.path for m in manifests if m is not None for part in m.parts}


def _youngest_ms(parts: Sequence[tuple[ExtractPartKey, ObjectInfo]]) -> dict[tuple[str, int], int]:
    """When each attempt wrote last."""
    found: dict[tuple[str, int], int] = defaultdict(int)
    for key, info in parts:
        attempt = key.run_id, key.extracted_ms
        found[attempt] = max(found[attempt], info.last_modified_ms)
    return found
