"""CPU, wall time and memory of one process, and of a process with all that it has started.

Standard library only: it runs in every environment that a benchmark compares.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self


class Meter:
    """CPU, wall and peak memory of this process."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, _cpu_seconds() - self._cpu

    def print(self, messages: int, silver: int, rejects: int, **more: object) -> None:
        peak = peak_rss_bytes() / 2**20
        print(json.dumps({
            "messages": messages, "silver_rows": silver, "rejected": rejects,
            "records_per_second": round(messages / self.wall),
            "cpu_seconds_per_million": round(self.cpu / messages * 1e6, 3),
            "peak_rss_mb": round(peak), **more,
        }))  # fmt: skip


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class TreeMeter:
    """CPU and wall seconds of this process and its descendants, between entry and exit."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), tree_cpu_seconds(os.getpid())
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_seconds = time.perf_counter() - self._wall
        self.cpu_seconds = tree_cpu_seconds(os.getpid()) - self._cpu


def tree_cpu_seconds(pid: int) -> float:
    """CPU of a process, its living descendants and those it has waited for.

    Without /proc it is this process's and that of the children it has waited for.
    """
    if sys.platform != "linux":
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return _cpu_seconds() + children.ru_utime + children.ru_stime
    ticks = 0
    for one in process_tree(pid):
        try:
            after_name = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        ticks += sum(int(field) for field in after_name[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def tree_rss_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, now; shared pages count in each. Linux."""
    pages = 0
    for one in process_tree(pid):
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_rss_bytes() -> int:
    """The most resident memory that this process has had.

    Not `ru_maxrss` where it can be helped: on Linux a process begins with its parent's.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def process_tree(pid: int) -> Iterator[int]:
    """A process and its living descendants."""
    yield pid
    try:
        tasks = [*Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return  # it has just ended
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from process_tree(int(child))
