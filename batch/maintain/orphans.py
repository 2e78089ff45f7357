"""Delete what nothing needs any more: files of lost races, of expired snapshots, of rewrites.

    list ─▶ read tables and ledgers ─▶ orphans ─▶ per batch: look again, delete ─▶ check

Candidates lie in a table's folder (data and metadata) and, for a feed, in its quarantine and its
ledger. One is an orphan when no snapshot and no metadata names it, no ledger needs it (`needed`),
and the grace has passed since it was written and since it left the table. A table that is no
feed's own (a replay's target) may name files in a feed's folder, so it is asked, too.

Guarantees: safe while the stream commits, while files are written that no commit names yet, and
while a second removal runs. Killed at any point it leaves a whole lake; the next run goes on.
Not here: Bronze (its slices are never candidates), parts of extracts (`orphan_parts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from batch.maintain.needed import Keeper
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
from stream.bar_keeper import EXACT, NUMBER
from stream.bars import TABLE as BARS_TABLE
from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import FatalError
from stream.feeds import load_feeds
from stream.lake.catalog import LakeTable
from stream.lake.catalog_maintenance import location, metadata_address, metadata_version
from stream.lake.connect import Lake
from stream.lake.entries import HEAD
from stream.lake.layout import LedgerKey, QuarantineKey
from stream.lake.store import ObjectInfo, Store
from stream.slices import ShardRef


def remove_orphans(
    lake: Lake,
    table: str,
    *,
    grace_hours: float = GRACE_HOURS,
    apply: bool = False,
    clock: Clock = SYSTEM_CLOCK,
    progress: Progress = no_progress,
    min_grace_hours: float = MIN_GRACE_HOURS,
) -> OrphanReport:
    """Delete a table's orphans; only name them unless `apply`.

    Args: min_grace_hours: the shortest grace that is not refused. progress: a stage and how many
    items are done.

    Raises: ConfigError (no such table, too short a grace), FatalError (a damaged ledger, or a
    catalog that did not write this folder: nothing was deleted), StoreUnavailableError (some may
    be deleted: run it again).
    """
    before_ms = grace_start_ms(clock, grace_hours, min_grace_hours)
    opened = lake.catalog.open(table)
    candidates = _list(lake.store, opened)
    progress("objects listed", len(candidates))
    keepers = [
        Keeper(opened, lake.store, _bars_number(lake, table)),
        *(Keeper(other, lake.store) for other in _foreign_tables(lake, table)),
    ]
    for keeper in keepers:
        keeper.read()
        progress(f"objects that {keeper.name} needs", keeper.count)
    _check_catalog(opened, candidates, keepers[0])
    unneeded = [c for c in candidates if _is_unneeded(c, keepers)]
    orphans = [c for c in unneeded if _free_since_ms(c.info, keepers) <= before_ms]

    def look_again() -> IsNeeded:
        for keeper in keepers:
            keeper.look_again()
        return lambda path: any(keeper.is_named(path) for keeper in keepers)

    report = sweep(
        lake.store,
        table,
        [c.info for c in candidates],
        [Orphan(c.kind, c.info.path, c.info.bytes) for c in orphans],
        waiting=len(unneeded) - len(orphans),
        before_ms=before_ms,
        apply=apply,
        look_again=look_again,
        progress=progress,
    )
    if apply:
        _check_deleted(report, keepers, look_again())
    return report


@dataclass(frozen=True, slots=True)
class _Candidate:
    kind: str
    info: ObjectInfo


def _list(store: Store, table: LakeTable) -> list[_Candidate]:
    """Every object that may turn out to be an orphan of the table."""
    folder = f"{store.relative(location(table))}/"
    found = [
        _Candidate("metadata" if "/metadata/" in info.path else "data", info)
        for info in store.list(folder)
    ]
    if HEAD not in table.properties:
        return found
    for kind, key, folder in (
        ("quarantine", QuarantineKey, _quarantine_folder(table.name)),
        ("ledger", LedgerKey, LedgerKey.prefix(table.name)),
    ):
        for info in store.list(folder):
            with suppress(ValueError):  # not one of ours: nobody's to delete
                key.parse(info.path)
                found.append(_Candidate(kind, info))
    return found


def _quarantine_folder(feed: str) -> str:
    """Where a feed's quarantine lies."""
    some = QuarantineKey.of(ShardRef(feed, "-", "-"), "0", 0, "")
    return some.path.partition("year=")[0]


def _foreign_tables(lake: Lake, table: str) -> Iterator[LakeTable]:
    """Tables that are no feed's own: their files may lie in a feed's folder."""
    own = {*load_feeds(), BARS_TABLE, table}
    yield from (lake.catalog.open(name) for name in lake.catalog.names() if name not in own)


def _bars_number(lake: Lake, table: str) -> int | None:
    """The ledger entry up to which the feed's bars are made; None for a feed without bars."""
    contract = load_feeds().get(table)
    if contract is None or not contract.has_bars:
        return None
    if BARS_TABLE not in lake.catalog.names():
        return 0
    properties = lake.catalog.open(BARS_TABLE).properties
    return min(int(properties.get(name, "0")) for name in (NUMBER, EXACT))


def _is_unneeded(candidate: _Candidate, keepers: Sequence[Keeper]) -> bool:
    path = candidate.info.path
    if candidate.kind == "ledger" and LedgerKey.parse(path).number > keepers[0].needed.number:
        return False  # its commit may still land
    return not any(keeper.keeps(path) for keeper in keepers)


def _free_since_ms(info: ObjectInfo, keepers: Sequence[Keeper]) -> int:
    """When an object was written, or left a table."""
    removed = (keeper.needed.removed_ms.get(info.path, 0) for keeper in keepers)
    return max(info.last_modified_ms, *removed)


def _check_catalog(table: LakeTable, candidates: Sequence[_Candidate], keeper: Keeper) -> None:
    """Refuse when the catalog cannot be the one that wrote this folder: to a catalog that was lost
    and made anew, or restored from a backup, everything newer looks like an orphan.
    """
    paths = [c.info.path for c in candidates if c.kind in {"data", "metadata"}]
    version = metadata_version(metadata_address(table)) or 0
    newest = max((metadata_version(path) or 0 for path in paths), default=0)
    if newest > version + 1:
        raise FatalError(
            f"table {table.name}: its folder holds metadata version {newest}, the catalog's is "
            f"{version}. The catalog was restored or made anew; nothing was deleted. Register the "
            "newest metadata file with the catalog, or move the older life's files away."
        )
    outside = keeper.find_outside()
    if outside is not None:
        raise FatalError(
            f"table {table.name} names {outside}, which is not in the lake {keeper.lake}. The lake "
            "was moved or copied without its addresses, so its own files look like orphans; "
            "nothing was deleted. Write the table's metadata anew for this lake."
        )


def _check_deleted(report: OrphanReport, keepers: Sequence[Keeper], is_named: IsNeeded) -> None:
    """Say so if a commit came to name a file in the moment in which it was deleted."""
    newer = [keeper.newly_needed().paths for keeper in keepers]
    lost = [
        orphan.path
        for orphan in report.orphans
        if is_named(orphan.path) or any(orphan.path in paths for paths in newer)
    ]
    if lost:
        raise FatalError(
            f"table {report.table}: {len(lost)} files were committed again in the moment of their "
            f"deletion, e.g. {lost[0]}. Restore them from the bucket's versions, or replay their "
            f"slices from Bronze: `headrace prove {report.table}` names them."
        )
