"""The picture of `scale.py`: CPU a message by case, by messages and by shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BLUE, GREY = "#1f5fa8", "#8a8a8a"
LIMIT = 1.8


def write_plot(found: Mapping[str, Any], messages: int, path: Path) -> None:
    """Write a PNG with machine and date.

    Args: found: what `scale.measure` returns. messages: of one copy of the input.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    cases, by_messages, by_shards = figure.subplots(1, 3, sharey=True)
    names = list(found["cases"])
    cases.bar(names, [found["cases"][name]["cpu"] for name in names], color=BLUE)
    cases.tick_params(axis="x", labelrotation=20, labelsize=8)
    cases.set(title="by case", ylabel="CPU seconds per million messages")
    series = (
        (by_messages, found["by_copies"], messages / 1e6, "million messages"),
        (by_shards, found["by_shards"], 1, "shards"),
    )
    for axis, figures, unit, label in series:
        axis.plot(
            [n * unit for n in figures], [f["cpu"] for f in figures.values()], "o-", color=BLUE
        )
        axis.set(title=f"by {label}", xlabel=label, xscale="log")
    for axis in (cases, by_messages, by_shards):
        axis.axhline(LIMIT, color=GREY, ls="--", lw=1)
        axis.set_ylim(bottom=0)
    figure.suptitle(f"headrace, reading of the input left out; {found['machine']}", fontsize=8)
    figure.savefig(path, dpi=120)
