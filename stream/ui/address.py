"""Where the page of a home listens: one small file, true only while its writer lives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from stream.clock import SYSTEM_CLOCK, Clock
from stream.local.process import ProcessId, identify, is_running


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is served now."""

    url: str
    process: ProcessId

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.url.rstrip("/").rpartition(":")[2])


def address_path(home: Path) -> Path:
    """Where the page of a home is remembered."""
    return home / "run" / "ui.json"


def read_page(home: Path) -> Page | None:
    """The page that serves this home now; None if there is none."""
    try:
        raw = json.loads(address_path(home).read_text())
        page = Page(raw["url"], ProcessId(**raw["process"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return page if is_running(page.process) else None


def wait_for_page(home: Path, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Page | None:
    """The same, for one that is just being started."""
    deadline = clock.monotonic() + seconds
    while (page := read_page(home)) is None and clock.monotonic() < deadline:
        clock.sleep(0.05)
    return page


@contextmanager
def announced(home: Path, url: str) -> Iterator[None]:
    """Let others find this process's page for as long as the block runs.

    A home that cannot be written costs the announcement, not the page.
    """
    path, process = address_path(home), identify(os.getpid())
    if process is None or read_page(home) is not None:  # the first page of a home keeps its place
        yield
        return
    fresh = path.with_suffix(".tmp")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(asdict(Page(url, process))))
        fresh.replace(path)
    try:
        yield
    finally:
        page = read_page(home)
        if page and page.process == process:
            path.unlink(missing_ok=True)
