"""The comparison as a table and as a picture: medians over rounds, ratios to headrace."""

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


def build_rows(contenders: list[Contender], rounds: list[list[Outcome]]) -> list[Row]:
    """A row for each contender, also for those that did not run."""
    return [_build_row(one, rounds) for one in contenders]


def _build_row(contender: Contender, rounds: list[list[Outcome]]) -> Row:
    versions = contender.versions() or {}
    if (absence := contender.absence()) is not None:
        return Row(contender, versions, absence=absence)
    pairs = []
    for found in rounds:
        by_name = {outcome.contender: outcome for outcome in found}
        if contender.name in by_name:
            pairs.append((by_name[contender.name], by_name[OURS]))
    if problems := [outcome.problem for outcome, _ in pairs if outcome.problem]:
        return Row(contender, versions, problem=problems[0])
    # Of headrace's runs, those on the largest input: it also ran on that of the slow ones.
    most = max(outcome.messages for outcome, _ in pairs)
    runs = [(outcome, ours) for outcome, ours in pairs if outcome.messages == most]
    valid = [(outcome, ours) for outcome, ours in runs if not ours.problem]
    return Row(
        contender,
        versions,
        messages=most,
        records_per_second=median(o.records_per_second for o, _ in runs),
        cpu_seconds_per_million=median(o.cpu_seconds_per_million for o, _ in runs),
        peak_rss_bytes=max(o.peak_rss_bytes for o, _ in runs),
        bytes_written=runs[0][0].bytes_written,
        startup_seconds=median(o.startup_seconds for o, _ in runs),
        cpu_ratio=median(
            [o.cpu_seconds_per_million / ours.cpu_seconds_per_million for o, ours in valid] or [0]
        ),
        rate_ratio=median(
            [ours.records_per_second / o.records_per_second for o, ours in valid] or [0]
        ),
    )


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
        ("CPU-seconds per million records (less is better)", "{:.2f}",
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
