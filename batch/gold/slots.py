"""Slots: where a build is made so that no reader sees it before it is published.

Locally a slot is a folder with one DuckDB file: a build begins with a copy of the published file,
so only what changed is computed again, and readers keep theirs for as long as they like. On
Athena two schemas take turns; views in the schema `gold` lead to the published one.
Not here: what is built (`build`), which slot is published (`stream.lake.gold`).
"""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stream.clock import Clock, now_ms
from stream.errors import CommitConflictError, ConfigError
from stream.lake.gold import GoldBuild, build_numbers, read_build, slot_file
from stream.lake.layout import GOLD, QUERY_RESULTS
from stream.lake.store import Store
from stream.settings import Settings

COLOURS = ("blue", "green")
LOCK_SECONDS = 3_600.0
_OURS = {"local": re.compile(r"\d{8}-\d+"), "athena": re.compile(r"athena-\d{8}-\d+")}
"""Names of the folders of builds."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place to build in. `file`: the DuckDB file; None on Athena. `basis`: the published build
    whose tables it holds already, if any.
    """

    name: str
    target: str
    folder: Path
    file: Path | None
    basis: GoldBuild | None

    def environment(self, store: Store) -> dict[str, str]:
        """What dbt's profile needs to know."""
        if self.file is not None:
            return {"DBT_TARGET": self.target, "DBT_GOLD_FILE": str(self.file.absolute())}
        return slot_environment(self.target, self.name, store)


def slot_environment(target: str, colour: str, store: Store) -> dict[str, str]:
    """What dbt's profile needs to know of a schema's colour."""
    return {
        "DBT_TARGET": target,
        "DBT_GOLD_SCHEMA": f"gold_{colour}",
        "DBT_GOLD_LOCATION": store.uri(GOLD),
        "DBT_ATHENA_RESULTS": store.uri(QUERY_RESULTS),
    }


def open_slot(
    settings: Settings,
    store: Store,
    target: str,
    published: GoldBuild | None,
    *,
    is_full: bool,
    clock: Clock,
) -> Slot:
    """A slot for the next build. `is_full`: it need not hold anything yet."""
    remove_old_slots(store, settings, target, published)
    number = published.number + 1 if published else 1
    if target != "local":
        free = next(c for c in COLOURS if published is None or c != published.slot)
        folder = settings.home / "gold" / f"{target}-{number:08d}-{now_ms(clock)}"
        _create_folder(folder)
        basis = None if is_full else _last_in(store, target, free)
        return Slot(free, target, folder, None, basis)
    name = f"{number:08d}-{now_ms(clock)}"
    file = slot_file(settings.home, name)
    _create_folder(file.parent)
    source = slot_file(settings.home, published.slot) if published else None
    if is_full or source is None or not source.is_file():  # another machine's, or deleted
        return Slot(name, target, file.parent, file, None)
    shutil.copyfile(source, file)
    return Slot(name, target, file.parent, file, published)


@contextmanager
def one_build(home: Path, clock: Clock, patience_seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Let one build at a time run on this machine; wait for the one that runs.

    The kernel lets go of the lock when a process ends, however it ends. Builds of other machines
    are told apart by the number that each publishes. Raises: CommitConflictError after the wait.
    """
    folder = home / "gold"
    _create_folder(folder)
    deadline = clock.monotonic() + patience_seconds
    with (folder / "lock").open("w") as lock:
        while not _is_mine(lock):
            if clock.monotonic() >= deadline:
                raise CommitConflictError(
                    f"another build of Gold has been running on {folder} for "
                    f"{patience_seconds:.0f} s. Wait for it, or end its process."
                )
            clock.sleep(0.2)
        yield


def remove_old_slots(
    store: Store, settings: Settings, target: str, published: GoldBuild | None
) -> None:
    """Delete folders that nobody reads: of builds before the last two, rejected, or killed.

    The published file stays, and the one before it for whoever still reads it. Call it under
    `one_build` alone.
    """
    previous = read_build(store, target, published.number - 1) if published else None
    kept = {build.slot for build in (published, previous) if build}
    for folder in (settings.home / "gold").glob("*"):
        if folder.name not in kept and _OURS[target].fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _is_mine(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_in(store: Store, target: str, colour: str) -> GoldBuild | None:
    """The newest published build that was made in this colour: what its tables hold."""
    for number in reversed(build_numbers(store, target)):
        build = read_build(store, target, number)
        if build is not None and build.slot == colour:
            return build
    return None


def _create_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot create {folder}: {error.strerror}. Choose another HEADRACE_HOME."
        ) from error
