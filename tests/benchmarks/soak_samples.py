"""What a soak looks at: samples of processes from /proc, slopes over them, verdicts, a picture.

A series is fitted by least squares over its second half: caches, the dedup window and the
allocator's own pools fill in the first. A verdict compares what the fitted line gains over that
half with a bound, and says both.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One look at one process. `peak_mb` is the kernel's high-water mark of its memory."""

    name: str
    pid: int
    at_seconds: float
    rss_mb: float
    peak_mb: float
    handles: int
    threads: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class RoadSample:
    """One look at the dataflow's own figures: totals since its start, and what it holds now."""

    at_seconds: float
    commits: int
    commit_seconds: float
    snapshots: int
    behind_seconds: float
    messages: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a series stayed flat: from its level at half time, by how much it grew, and what
    was allowed.
    """

    series: str
    level: float
    growth: float
    allowed: float

    @property
    def is_flat(self) -> bool:
        return self.growth <= self.allowed

    def __str__(self) -> str:
        word = "flat" if self.is_flat else "GROWS"
        return (
            f"{word:6}{self.series:34}{self.level:10,.2f} at half time, {self.growth:+9.2f} over "
            f"the second half (allowed {self.allowed:.2f})"
        )


def look_at(name: str, pid: int, at_seconds: float) -> ProcessSample | None:
    """A process as it is now; None if it has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        lines = (line.split() for line in (folder / "status").read_text().splitlines())
        status = {line[0]: line[1] for line in lines if len(line) > 1}
        used = (folder / "stat").read_text().rpartition(")")[2].split()
        handles = sum(1 for _ in (folder / "fd").iterdir())
    except (OSError, IndexError):
        return None
    if "VmRSS:" not in status:
        return None  # a zombie
    return ProcessSample(
        name,
        pid,
        round(at_seconds, 2),
        int(status["VmRSS:"]) * 1024 / MB,
        int(status["VmHWM:"]) * 1024 / MB,
        handles,
        int(status["Threads:"]),
        (int(used[11]) + int(used[12])) / TICKS,
    )


def judge(
    series: str, at: Sequence[float], values: Sequence[float], share: float, slack: float
) -> Verdict:
    """A verdict over the second half: growth of at most `share` of the level, or of `slack`."""
    times, found = np.asarray(at, float), np.asarray(values, float)
    late = times >= (times[0] + times[-1]) / 2
    slope, start = np.polyfit(times[late], found[late], 1)
    level = float(slope * times[late][0] + start)
    growth = float(slope * (times[late][-1] - times[late][0]))
    return Verdict(series, level, growth, max(share * level, slack))


def commit_times(road: Sequence[RoadSample]) -> tuple[list[float], list[float]]:
    """Mean duration of the commits between two looks, ms, at the later look."""
    pairs = [(a, b) for a, b in itertools.pairwise(road) if b.commits > a.commits]
    at = [b.at_seconds for _, b in pairs]
    spent = [
        (b.commit_seconds - a.commit_seconds) / (b.commits - a.commits) * 1000 for a, b in pairs
    ]
    return at, spent


def judge_all(processes: Sequence[ProcessSample], road: Sequence[RoadSample]) -> list[Verdict]:
    """Memory and handles of every process that lived to half time, commits, snapshots, lag."""
    verdicts = []
    for name in dict.fromkeys(sample.name for sample in processes):
        mine = [s for s in processes if s.name == name]
        if len(mine) < 8:
            continue
        at = [s.at_seconds for s in mine]
        verdicts += [
            judge(f"{name}: memory, MB", at, [s.rss_mb for s in mine], 0.10, 30.0),
            judge(f"{name}: open handles", at, [s.handles for s in mine], 0.10, 4.0),
            judge(f"{name}: threads", at, [s.threads for s in mine], 0.10, 4.0),
        ]
    at, spent = commit_times(road)
    if len(at) >= 8:
        verdicts.append(judge("trades: one commit, ms", at, spent, 0.5, 50.0))
    at = [s.at_seconds for s in road]
    verdicts += [
        judge("trades: retained snapshots", at, [s.snapshots for s in road], 0.5, 20.0),
        judge("trades: behind, s", at, [s.behind_seconds for s in road], 0.5, 15.0),
    ]
    return verdicts


def draw(
    processes: Sequence[ProcessSample],
    road: Sequence[RoadSample],
    marks: Sequence[tuple[float, str]],
    title: str,
    path: Path,
) -> None:
    """Memory, handles and threads of each process; commit time, snapshots and lag; maintenance
    as thin lines.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 12), layout="constrained")
    axes = figure.subplots(5, 1, sharex=True)
    names = list(dict.fromkeys(sample.name for sample in processes))
    for name in names:
        mine = [s for s in processes if s.name == name]
        minutes = [s.at_seconds / 60 for s in mine]
        axes[0].plot(minutes, [s.rss_mb for s in mine], label=name)
        axes[1].plot(minutes, [s.handles for s in mine], label=f"{name}: handles")
        axes[1].plot(minutes, [s.threads for s in mine], "--", label=f"{name}: threads")
    at, spent = commit_times(road)
    axes[2].plot([t / 60 for t in at], spent, ".", markersize=4)
    minutes = [s.at_seconds / 60 for s in road]
    axes[3].plot(minutes, [s.snapshots for s in road])
    axes[4].plot(minutes, [s.behind_seconds for s in road])
    labels = ("memory, MB", "handles, threads", "one commit, ms", "snapshots", "behind, s")
    for axis, label in zip(axes, labels, strict=True):
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        for second, _ in marks:
            axis.axvline(second / 60, color="0.8", linewidth=0.6, zorder=0)
    axes[0].legend(fontsize="small", ncols=4)
    axes[1].legend(fontsize="small", ncols=4)
    axes[-1].set_xlabel("minutes (grey: a run of maintenance)")
    axes[0].set_title(title)
    figure.savefig(path, dpi=110)


def to_json(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Samples as plain dictionaries."""
    return [{name: getattr(item, name) for name in item.__slots__} for item in items]
