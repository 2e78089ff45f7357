"""The comparison as a table and as a picture: medians over rounds, ratios to headrace's run."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from peers.contenders import Contender
from peers.measure import Outcome

OURS = "headrace"


@dataclass(frozen=True, slots=True)
class Pair:
    """A contender's run, and headrace's on the same input just before it."""

    outcome: Outcome
    ours: Outcome


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `absence`: why it did not run; `problem`: why its time does not count.

    `cpu_ratio`: its CPU for the same records over headrace's; `rate_ratio`: headrace's records a
    second over its own. Both above 1 where headrace is better.
    """

    contender: Contender
    versions: dict[str, str]
    absence: str = ""
    problem: str = ""
    messages: int = 0
    records_per_second: float = 0.0
    cpu_seconds_per_million: float = 0.0
    peak_rss_bytes: int = 0
    bytes_written: int = 0
    startup_seconds: float = 0.0
    cpu_ratio: float = 0.0
    rate_ratio: float = 0.0

    @property
    def counts(self) -> bool:
        return not self.absence and not self.problem

    def as_json(self) -> dict[str, Any]:
        """What a machine reads; figures only where they count."""
        found: dict[str, Any] = {
            "name": self.contender.name,
            "title": self.contender.title,
            "versions": self.versions,
            "leaves_out": self.contender.leaves_out,
        }
        if not self.counts:
            return (
                found | {"absent": self.absence}
                if self.absence
                else found | {"problem": self.problem}
            )
        figures = ("messages", "peak_rss_bytes", "bytes_written", "startup_seconds")
        rounded = ("records_per_second", "cpu_seconds_per_million", "cpu_ratio", "rate_ratio")
        found |= {name: getattr(self, name) for name in figures}
        return found | {name: round(getattr(self, name), 3) for name in rounded}


def build_rows(contenders: list[Contender], pairs: list[Pair]) -> list[Row]:
    """A row for each contender, also for those that did not run."""
    return [_build_row(one, pairs) for one in contenders]


def _build_row(contender: Contender, pairs: list[Pair]) -> Row:
    versions = contender.versions() or {}
    if (absence := contender.absence()) is not None:
        return Row(contender, versions, absence=absence)
    if contender.name == OURS:  # it also ran on the smaller input of the slow ones
        most = max(pair.ours.messages for pair in pairs)
        found = [Pair(p.ours, p.ours) for p in pairs if p.ours.messages == most]
    else:
        found = [pair for pair in pairs if pair.outcome.contender == contender.name]
    runs = [pair.outcome for pair in found]
    if problems := [run.problem for run in runs if run.problem]:
        return Row(contender, versions, problem=problems[0])
    valid = [pair for pair in found if not pair.ours.problem]
    return Row(
        contender,
        versions,
        messages=runs[0].messages,
        records_per_second=median(run.records_per_second for run in runs),
        cpu_seconds_per_million=median(run.cpu_seconds_per_million for run in runs),
        peak_rss_bytes=max(run.peak_rss_bytes for run in runs),
        bytes_written=runs[0].bytes_written,
        startup_seconds=median(run.startup_seconds for run in runs),
        cpu_ratio=_ratio(
            [(p.outcome.cpu_seconds_per_million, p.ours.cpu_seconds_per_million) for p in valid]
        ),
        rate_ratio=_ratio(
            [(p.ours.records_per_second, p.outcome.records_per_second) for p in valid]
        ),
    )


def _ratio(parts: list[tuple[float, float]]) -> float:
    """The median of the ratios; 0 if headrace itself was wrong."""
    return median(above / below for above, below in parts) if parts else 0.0


def print_rows(rows: list[Row]) -> None:
    """The table, then who is absent or wrong, then what each leaves out."""
    names = ("records/s", "CPU-s/M", "RSS MB", "B/record", "CPU ratio", "rate ratio", "messages")
    print(f"{'':30}" + "".join(f"{name:>12}" for name in names))
    for row in rows:
        if row.counts:
            print(
                f"{row.contender.title:30}{row.records_per_second:>12,.0f}"
                f"{row.cpu_seconds_per_million:>12.2f}{row.peak_rss_bytes / 2**20:>12,.0f}"
                f"{row.bytes_written / row.messages:>12.1f}{row.cpu_ratio:>11.1f}x"
                f"{row.rate_ratio:>11.1f}x{row.messages:>12,}"
            )
    for row in rows:
        if not row.counts:
            print(f"{row.contender.title:30}{row.absence or row.problem}")
    print("CPU ratio: its CPU-seconds over headrace's; rate ratio: headrace's records/s over its.")
    print("\nleaves out")
    for row in rows:
        versions = ", ".join(f"{name} {version}" for name, version in row.versions.items())
        print(f"{row.contender.title:30}{row.contender.leaves_out}")
        print(f"{'':30}({versions or 'not installed'})")


def write_plot(rows: list[Row], machine: str, path: Path) -> None:
    """Bars of CPU-seconds per million records, records a second and memory, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.counts][::-1]
    figure = Figure(figsize=(13, 1.9 + 0.62 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        ("CPU-s per million records (less is better)", "{:.2f}",
         [row.cpu_seconds_per_million for row in shown]),
        ("records a second (more is better)", "{:,.0f}",
         [row.records_per_second for row in shown]),
        ("peak memory, MB (less is better)", "{:,.0f}",
         [row.peak_rss_bytes / 2**20 for row in shown]),
    )  # fmt: skip
    axes = figure.subplots(1, 3, sharey=True)
    places = range(len(shown))
    for axis, (title, form, values) in zip(axes, panels, strict=True):
        colours = ["#0b6e4f" if row.contender.name.startswith(OURS) else "#8d99ae" for row in shown]
        bars = axis.barh(places, values, color=colours, log=True)
        labels = [form.format(value) for value in values]
        if axis is axes[0]:
            labels = [
                label if row.contender.name == OURS else f"{label}  ({row.cpu_ratio:.1f}x)"
                for label, row in zip(labels, shown, strict=True)
            ]
        axis.bar_label(bars, labels, padding=3, fontsize=9)
        axis.set_title(title, fontsize=10)
        axis.set_xlim(min(values) / 3, max(values) * 8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(places, [_label(row) for row in shown], fontsize=9)
    messages = max(row.messages for row in shown)
    figure.suptitle(
        f"One job, verified outputs: raw kept, typed, checked, de-duplicated, by day, rejects kept "
        f"({messages:,} trades)",
        fontsize=12,
    )
    absent = [f"{row.contender.title}: {row.absence or row.problem}" for row in rows
              if not row.counts]  # fmt: skip
    note = "; ".join([f"{machine}; scales are logarithmic", *absent])
    figure.supxlabel(textwrap.fill(note, 190), fontsize=8)
    figure.savefig(path, dpi=130)


def _label(row: Row) -> str:
    lacks = textwrap.shorten(row.contender.leaves_out, 64, placeholder=" …")
    return f"{row.contender.title}\nleaves out: {lacks}"
