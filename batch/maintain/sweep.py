"""Sweep out objects that nothing needs: the grace, deletion in batches, the report.

What is an orphan is the caller's to say, from a listing that came before everything else it read.
Between that and the deletion somebody may have begun to need one, because the same content gets
the same name again: so before each batch the caller looks again, and right before each deletion
the object is looked up and left alone if it was written anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from stream.clock import Clock, now_ms
from stream.errors import ConfigError
from stream.lake.store import ObjectInfo, Store

GRACE_HOURS = 72.0
MIN_GRACE_HOURS = 1.0
BATCH = 256
THREADS = 8

Progress = Callable[[str, int], None]
IsNeeded = Callable[[str], bool]


def no_progress(_stage: str, _done: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """An object that nothing needs. `kind`: data, metadata, quarantine, ledger or part."""

    kind: str
    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class OrphanReport:
    """What a removal did, or would do: `orphans` are those that the grace no longer keeps.

    `waiting`: objects that nothing needs yet or any more, within their grace. `spared`: orphans
    that were needed or written again when their turn came. `kinds`: orphans by kind.
    """

    table: str
    is_applied: bool
    objects_before: int
    objects_after: int
    bytes_before: int
    bytes_after: int
    orphans: tuple[Orphan, ...]
    waiting: int
    spared: int = 0

    @property
    def kinds(self) -> Mapping[str, int]:
        """Orphans by kind."""
        return Counter(orphan.kind for orphan in self.orphans)

    def to_row(self) -> dict[str, object]:
        """As a row of a table: numbers only, not each path."""
        row = {name: value for name, value in asdict(self).items() if name != "orphans"}
        freed = {"orphans": len(self.orphans), "orphan_bytes": sum(o.bytes for o in self.orphans)}
        return {**row, **freed, **self.kinds}


def grace_start_ms(clock: Clock, grace_hours: float, min_grace_hours: float) -> int:
    """What was written before this is old enough. Raises: ConfigError for too short a grace."""
    if grace_hours < min_grace_hours:
        raise ConfigError(
            f"grace of {grace_hours} h: expected at least {min_grace_hours} h. A file is written "
            "before the commit that names it, and until then it looks like an orphan."
        )
    return now_ms(clock) - int(grace_hours * 3_600_000)


def sweep(
    store: Store,
    name: str,
    listed: Sequence[ObjectInfo],
    orphans: Sequence[Orphan],
    *,
    waiting: int,
    before_ms: int,
    apply: bool,
    look_again: Callable[[], IsNeeded],
    progress: Progress,
) -> OrphanReport:
    """Delete the orphans if `apply`, and report. Args: look_again: called before each batch."""
    deleted = set()
    if apply:
        deleted = _delete(store, orphans, before_ms, look_again, progress)
    gone = [o for o in orphans if o.path in deleted] if apply else orphans
    size = sum(info.bytes for info in listed)
    return OrphanReport(
        table=name,
        is_applied=apply,
        objects_before=len(listed),
        objects_after=len(listed) - len(gone),
        bytes_before=size,
        bytes_after=size - sum(orphan.bytes for orphan in gone),
        orphans=tuple(gone),
        waiting=waiting,
        spared=len(orphans) - len(gone),
    )


def _delete(
    store: Store,
    orphans: Sequence[Orphan],
    before_ms: int,
    look_again: Callable[[], IsNeeded],
    progress: Progress,
) -> set[str]:
    deleted: set[str] = set()

    def delete(path: str) -> str | None:
        info = store.find(path)
        if info is not None and info.last_modified_ms > before_ms:
            return None
        store.delete(path)
        return path

    with ThreadPoolExecutor(THREADS, thread_name_prefix="sweep") as pool:
        for batch in _batches(orphans):
            is_needed = look_again()
            paths = [orphan.path for orphan in batch if not is_needed(orphan.path)]
            deleted |= {path for path in pool.map(delete, paths) if path is not None}
            progress("deleted", len(deleted))
    return deleted


def _batches(orphans: Sequence[Orphan]) -> Iterable[Sequence[Orphan]]:
    return (orphans[at : at + BATCH] for at in range(0, len(orphans), BATCH))
