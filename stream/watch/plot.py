"""Draw lag, freshness and throughput of a range as one PNG: three panels over the same time.

One feed shows each of its shards; several feeds show the worst shard of each. Closed markets are
shaded, the contracts' targets dashed, gaps and rejects marked. Colours are those of Okabe and Ito,
told apart by every kind of eye; whatever a colour says, a label or a shape says too.

Only here is matplotlib imported, and only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stream.clock import to_utc
from stream.errors import ConfigError
from stream.sessions import closed_spans
from stream.watch.ledger_history import FeedHistory, LagLine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, QUIET, GRID, SHADE, ALARM = "#1f2328", "#636c76", "#e4e8ec", "#eceff2", "#B00020"
MAX_LINES = 6
"""So many shards get a colour each; of more, all are thin and grey and the worst is drawn over."""

Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Plotted:
    """A feed to be drawn. `target_ms`: its contract's freshness; `calendar`: its market's."""

    history: FeedHistory
    target_ms: int
    calendar: str


def draw_png(feeds: Sequence[Plotted], path: Path) -> None:
    """Draw feeds over the range of their histories.

    Raises: ConfigError if nothing was committed in the range, or the file cannot be written.
    """
    if all(feed.history.is_empty for feed in feeds):
        history = feeds[0].history
        names = ", ".join(feed.history.feed for feed in feeds)
        raise ConfigError(
            f"nothing to draw: {names} committed nothing between {_text(history.from_ms)} and "
            f"{_text(history.to_ms)} UTC. `headrace ledger {feeds[0].history.feed} --commits` "
            "shows when it did; choose --from and --to so."
        )
    figure = build_figure(feeds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}. Choose another --output."
        ) from error


def build_figure(feeds: Sequence[Plotted]) -> Figure:
    """The figure, without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - 0.5 s of import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11.5, 8.2), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        3,
        1,
        height_ratios=(3, 3, 2.4),
        left=0.075,
        right=0.955,
        top=0.865,
        bottom=0.075,
        hspace=0.36,
    )
    lag = figure.add_subplot(grid[0])
    fresh = figure.add_subplot(grid[1], sharex=lag)
    rate = figure.add_subplot(grid[2], sharex=lag)
    history = feeds[0].history
    for axes in (lag, fresh, rate):
        _dress(axes)
        for start, end in _closed(feeds):
            axes.axvspan(start, end, color=SHADE, zorder=0, linewidth=0)
    _draw_lag(lag, feeds)
    _draw_freshness(fresh, feeds)
    _draw_throughput(rate, feeds)
    lag.set_xlim(_days(history.from_ms), _days(history.to_ms))
    _time_axis(rate, (lag, fresh))
    _mark_gaps((lag, fresh, rate), feeds)
    _headline(figure, feeds)
    return figure


def line_points(line: LagLine) -> Points:
    """A lag line as strictly rising times (days) and seconds; a drop takes a millisecond."""
    times: list[int] = []
    for at, _ in line.points:
        times.append(at if not times or at > times[-1] else times[-1] + 1)
    lags = np.array([lag for _, lag in line.points], dtype=np.float64)
    return np.array(times, dtype=np.float64), lags / 1000


def worst(lines: Sequence[LagLine]) -> Points:
    """The highest lag of several lines at every time at which one of them bends."""
    found = [line_points(line) for line in lines if line.points]
    if not found:
        return np.array([]), np.array([])
    times = np.unique(np.concatenate([at for at, _ in found]))
    lags = [np.interp(times, at, lag, left=0.0, right=0.0) for at, lag in found]
    return times, np.max(lags, axis=0)


def _draw_lag(axes: Axes, feeds: Sequence[Plotted]) -> None:
    _title(axes, "Lag", "how long the oldest unread record had been waiting")
    top = 0.0
    lines: list[tuple[str, str, Points]] = []
    if len(feeds) == 1 and len(feeds[0].history.lags) <= MAX_LINES:
        for colour, line in zip(COLOURS, feeds[0].history.lags, strict=False):
            lines.append((f"shard {_short(line.shard)}", colour, line_points(line)))
    else:
        for colour, feed in _coloured(feeds):
            if len(feeds) == 1:
                for line in feed.history.lags:
                    times, lags = line_points(line)
                    axes.plot(_days_of(times), lags, color="#b8c0c8", linewidth=0.5, zorder=2)
            label = feed.history.feed if len(feeds) > 1 else "the worst shard"
            lines.append((label, colour, worst(feed.history.lags)))
    for number, (label, colour, (times, lags)) in enumerate(lines):
        # Shards often rise and fall as one: a line that lies below another stays to be seen.
        width = 1.1 + 1.5 * (len(lines) - 1 - number) / max(1, len(lines) - 1)
        width = width if len(lines) > 1 else 1.2
        axes.plot(_days_of(times), lags, color=colour, linewidth=width, label=label, zorder=3)
        top = max(top, float(lags.max(initial=0.0)))
    top = max(top, *_draw_targets(axes, feeds, top))
    _seconds_axis(axes, top)
    if len(lines) > 1:
        _legend(axes)


def _draw_freshness(axes: Axes, feeds: Sequence[Plotted]) -> None:
    _title(axes, "Freshness", "age of records when they became queryable: oldest and newest")
    top = 0.0
    for colour, feed in _coloured(feeds):
        delays = feed.history.delays
        if not delays:
            continue
        at = [_days(delay.at_ms) for delay in delays]
        newest = np.array([delay.newest_ms / 1000 for delay in delays])
        oldest = np.array([delay.oldest_ms / 1000 for delay in delays])
        axes.vlines(at, newest, oldest, color=colour, linewidth=_bar_width(len(at)), alpha=0.45)
        size = max(1.0, min(4.0, 400 / len(at)))
        axes.plot(
            at, oldest, marker="o", markersize=size, color=colour, linewidth=0.0, zorder=3,
            label=feed.history.feed,
        )  # fmt: skip
        top = max(top, float(oldest.max()))
    top = max(top, *_draw_targets(axes, feeds, top))
    _seconds_axis(axes, top)


def _draw_throughput(axes: Axes, feeds: Sequence[Plotted]) -> None:
    _title(axes, "Throughput", "records per second, committed")
    for colour, feed in _coloured(feeds):
        edges: list[float] = []
        values: list[float] = []
        for rate in feed.history.rates:
            edges += [_days(rate.from_ms), _days(rate.to_ms)]
            values += [rate.records_per_s, rate.records_per_s]
        axes.plot(edges, values, color=colour, linewidth=1.1, zorder=3)
        axes.fill_between(edges, values, color=colour, alpha=0.14, linewidth=0, zorder=2)
        if rejects := feed.history.rejects:
            axes.plot(
                [_days(event.at_ms) for event in rejects], [0.0] * len(rejects), marker="^",
                markersize=5, color=ALARM, linewidth=0.0, clip_on=False, zorder=5,
            )  # fmt: skip
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_formatter(
        lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"
    )


def _draw_targets(axes: Axes, feeds: Sequence[Plotted], top: float) -> list[float]:
    """The targets as dashed lines; those far above everything are only written."""
    drawn = [0.0]
    targets = {feed.target_ms / 1000: colour for colour, feed in _coloured(feeds)}
    for target, colour in targets.items():
        if target > max(top * 4, 1.0) and top > 0:
            axes.text(
                0.995, 0.93, f"target {_span(target)}, above", transform=axes.transAxes, ha="right",
                va="top", color=QUIET, fontsize=9,
            )  # fmt: skip
            continue
        shade = colour if len(targets) > 1 else INK
        axes.axhline(target, color=shade, linewidth=1.0, linestyle=(0, (5, 4)), zorder=4)
        axes.annotate(
            f"target {_span(target)}", (1.0, target), xycoords=("axes fraction", "data"),
            xytext=(-4, 3), textcoords="offset points", ha="right", va="bottom", fontsize=9,
            color=shade, zorder=6,
        )  # fmt: skip
        drawn.append(target * 1.1)
    return drawn


def _mark_gaps(panels: Sequence[Axes], feeds: Sequence[Plotted]) -> None:
    for feed in feeds:
        for event in feed.history.gaps:
            for axes in panels:
                axes.axvline(_days(event.at_ms), color=ALARM, linewidth=1.4, zorder=6)
            panels[0].annotate(
                "records lost", (_days(event.at_ms), 1.0), xycoords=("data", "axes fraction"),
                xytext=(4, -4), textcoords="offset points", color=ALARM, fontsize=9, va="top",
                weight="bold", zorder=7,
            )  # fmt: skip


def _headline(figure: Figure, feeds: Sequence[Plotted]) -> None:
    history = feeds[0].history
    names = ", ".join(feed.history.feed for feed in feeds)
    figure.text(0.02, 0.955, names, fontsize=17, weight="bold", color=INK, va="center")
    commits = sum(len(feed.history.delays) for feed in feeds)
    rejected = sum(event.count for feed in feeds for event in feed.history.rejects)
    gaps = sum(event.count for feed in feeds for event in feed.history.gaps)
    figure.text(
        0.98, 0.955, f"{_text(history.from_ms)} to {_text(history.to_ms)} UTC",
        fontsize=11, color=QUIET, va="center", ha="right",
    )  # fmt: skip
    parts = [f"{commits:,} commits", f"{rejected:,} messages rejected", f"{gaps:,} gaps"]
    keys = ["▲ a commit with rejects"] if rejected else []
    keys += ["▏records lost"] if gaps else []
    keys += ["shaded: market closed"] if _closed(feeds) else []
    figure.text(
        0.02, 0.918, "    ".join([" · ".join(parts), *keys]), fontsize=10, color=QUIET, va="center"
    )


def _dress(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#b8c0c8")
    axes.grid(axis="y", color=GRID, linewidth=0.9)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=10, colors=QUIET)


def _title(axes: Axes, name: str, meaning: str) -> None:
    title = axes.set_title(name, loc="left", fontsize=12, weight="bold", color=INK, pad=9)
    axes.annotate(
        meaning, (1.0, 0.0), xycoords=title, xytext=(8, 0), textcoords="offset points",
        fontsize=10, color=QUIET, va="bottom",
    )  # fmt: skip


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncol=MAX_LINES, fontsize=9.5, frameon=False,
        labelcolor=INK, handlelength=1.2, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip


def _seconds_axis(axes: Axes, top: float) -> None:
    axes.set_ylim(0.0, max(top * 1.08, 0.5))
    axes.yaxis.set_major_formatter(lambda value, _: _span(value))


def _time_axis(bottom: Axes, others: Sequence[Axes]) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter  # noqa: PLC0415

    low, high = bottom.get_xlim()
    locate: Any = AutoDateLocator  # matplotlib does not type these two
    write: Any = DateFormatter
    bottom.xaxis.set_major_locator(locate(minticks=4, maxticks=9))
    bottom.xaxis.set_major_formatter(write(_time_format(high - low)))
    bottom.tick_params(axis="x", pad=7)
    for axes in others:
        axes.tick_params(labelbottom=False)
    bottom.set_xlabel("time, UTC", fontsize=9.5, color=QUIET, loc="right")


def _time_format(days: float) -> str:
    """How times are written on an axis of so many days.

    >>> _time_format(0.001), _time_format(0.3), _time_format(3.0), _time_format(40.0)
    ('%H:%M:%S', '%H:%M', '%d %b %H:%M', '%d %b %Y')
    """
    for limit, form in ((1 / 96, "%H:%M:%S"), (1.0, "%H:%M"), (8.0, "%d %b %H:%M")):
        if days <= limit:
            return form
    return "%d %b %Y"


def _closed(feeds: Sequence[Plotted]) -> list[tuple[float, float]]:
    """When every market that is drawn was closed, in days; several calendars: none."""
    calendars = {feed.calendar for feed in feeds}
    if len(calendars) > 1:
        return []
    history = feeds[0].history
    spans = closed_spans(calendars.pop(), history.from_ms, history.to_ms)
    return [(_days(start), _days(end)) for start, end in spans]


def _coloured(feeds: Sequence[Plotted]) -> list[tuple[str, Plotted]]:
    return [(COLOURS[n % len(COLOURS)], feed) for n, feed in enumerate(feeds)]


def _bar_width(count: int) -> float:
    return max(0.6, min(5.0, 500 / count))


def _span(seconds: float) -> str:
    """A duration on an axis.

    >>> _span(0), _span(0.25), _span(15), _span(90), _span(120), _span(7200)
    ('0', '0.25 s', '15 s', '1.5 min', '2 min', '2 h')
    """
    if not seconds:
        return "0"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _short(shard: str) -> str:
    return shard.removeprefix("shardId-").lstrip("0") or "0"


def _text(at_ms: int) -> str:
    return f"{to_utc(at_ms * 1_000_000):%Y-%m-%d %H:%M:%S}"


def _days(at_ms: float) -> float:
    """Matplotlib's time: days since 1970."""
    return at_ms / 86_400_000


def _days_of(times: npt.NDArray[np.float64]) -> Any:
    return times / 86_400_000
