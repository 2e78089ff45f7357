"""Dollars per million messages over the rate, as a PNG with the prices' date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

COLOURS = ("#0b6e4f", "#d1495b", "#00798c", "#edae49", "#8d6a9f")


def write_plot(
    options: Sequence[Callable[..., Any]],
    load: Any,
    prices: Mapping[str, Any],
    breaks: Mapping[str, tuple[float | None, float | None]],
    path: Path,
) -> None:
    """A line per option from 10/s to 1M/s; a dot where headrace becomes the cheaper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rates = [10 * 1.05**n for n in range(237)]
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for option, colour in zip(options, COLOURS, strict=True):
        costs = [option(_at(load, rate), prices) for rate in rates]
        width = 2.6 if option is options[0] else 1.5
        axis.plot(rates, [c.per_million for c in costs], color=colour, lw=width,
                  label=costs[0].option)  # fmt: skip
        first = breaks.get(costs[0].option, (None, None))[0]
        if first is not None and first > rates[0]:
            crossing = option(_at(load, first), prices)
            axis.plot([first], [crossing.per_million], "o", color=colour)
            axis.annotate(f"{first:,.0f}/s", (first, crossing.per_million),
                          xytext=(6, 6), textcoords="offset points", fontsize=9)  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("messages a second, all day")
    axis.set_ylabel("dollars per million messages")
    axis.set_title(
        "From Kinesis to a queryable Iceberg table: stream, compute, requests, compaction"
    )
    axis.grid(visible=True, which="major", alpha=0.3)
    axis.legend(frameon=False)
    figure.supxlabel(
        f"list prices of {prices['region']}, {prices['date']}; {load.message_bytes} B a message, "
        f"{load.pack} a record, commits each {load.interval_seconds:g} s, "
        f"{load.utilisation:.0%} of bought CPU used; dots: headrace becomes the cheaper",
        fontsize=8,
    )
    figure.savefig(path, dpi=130)


def _at(load: Any, rate: float) -> Any:
    return type(load)(**(asdict(load) | {"rate": rate}))
