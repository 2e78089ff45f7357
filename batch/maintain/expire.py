"""Expire old snapshots: every commit to a table pays for each snapshot that its metadata holds.

A snapshot goes when it is older than `keep_hours` and not one of the newest `keep_last`; never the
current one, nor one that a branch or a tag names. Files stay where they are: what no snapshot needs
any more is an orphan, and `orphans` deletes it after its grace.

Guarantees: safe while the stream commits and while a second expiry runs; neither rows, positions
nor the ledger's head change; a reader of a kept snapshot notices nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from batch.maintain.attempts import until_landed
from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError
from stream.failpoints import failpoint
from stream.lake.catalog import LakeTable
from stream.lake.catalog_maintenance import SnapshotInfo, expire, metadata_address, read_snapshots
from stream.lake.connect import Lake
from stream.lake.store import Store

KEEP_HOURS = 1.25
"""A cursor of the API leads to a snapshot for an hour. With a commit each ten seconds, and expiry
every quarter of an hour, 450 to 540 are retained."""
KEEP_LAST = 10


@dataclass(frozen=True, slots=True)
class ExpireReport:
    """What an expiry did, or would do.

    `snapshots_after` also counts those that the stream made meanwhile. `metadata_bytes_*`: of the
    table's metadata file; a dry run cannot know the later one. `attempts`: commits tried.
    """

    table: str
    is_applied: bool
    expired: int
    snapshots_before: int
    snapshots_after: int
    metadata_bytes_before: int
    metadata_bytes_after: int
    attempts: int = 0

    def to_row(self) -> dict[str, object]:
        """As a row of a table."""
        return asdict(self)


def expire_snapshots(
    lake: Lake,
    table: str,
    *,
    keep_hours: float = KEEP_HOURS,
    keep_last: int = KEEP_LAST,
    apply: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> ExpireReport:
    """Expire a table's old snapshots; only say which number it would be unless `apply`.

    Raises: ConfigError (no such table, a limit that keeps nothing), CommitConflictError (30 lost
    races), StoreUnavailableError.
    """
    if keep_last < 1 or keep_hours < 0:
        raise ConfigError(
            f"keep_last {keep_last}, keep_hours {keep_hours}: keep at least 1 snapshot and 0 hours"
        )
    opened = lake.catalog.open(table)
    planned = plan_expiry(read_snapshots(opened), now_ms(clock), keep_hours, keep_last)
    before, bytes_before = opened.snapshot_count, _metadata_bytes(opened, lake.store)
    if not apply or not planned:
        left = before - len(planned)
        return ExpireReport(table, apply, len(planned), before, left, bytes_before, bytes_before)
    tried: list[int] = []

    def attempt() -> None:
        opened.refresh()
        old = plan_expiry(read_snapshots(opened), now_ms(clock), keep_hours, keep_last)
        if old:  # none: an attempt without an answer had landed, or another expiry was first
            tried.append(len(old))
            failpoint("expire-send")
            expire(opened, old)

    until_landed(attempt, clock, f"expiry of table {table}")
    return ExpireReport(
        table,
        apply,
        tried[-1] if tried else 0,
        before,
        opened.snapshot_count,
        bytes_before,
        _metadata_bytes(opened, lake.store),
        len(tried),
    )


def plan_expiry(
    snapshots: Sequence[SnapshotInfo], now: int, keep_hours: float, keep_last: int
) -> list[int]:
    """The snapshots to expire, oldest first. Pure.

    Args: snapshots: in the order of their commits. now: ms since the epoch.

    >>> old = [SnapshotInfo(n, 1_000 * n, n == 2) for n in range(5)]
    >>> plan_expiry(old, 7_204_000, keep_hours=2, keep_last=1)
    [0, 1, 3]
    """
    since_ms = now - int(keep_hours * 3_600_000)
    return [
        snapshot.snapshot_id
        for snapshot in snapshots[:-keep_last]
        if snapshot.committed_ms < since_ms and not snapshot.is_named
    ]


def _metadata_bytes(table: LakeTable, store: Store) -> int:
    found = store.find(store.relative(metadata_address(table)))
    return found.bytes if found else 0  # replaced since: the stream keeps the newest ten alone
