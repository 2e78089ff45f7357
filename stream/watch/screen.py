"""The terminal's picture of a `WatchState`: tables, sparklines and colours for Rich. Pure.

It fits itself to the width: columns that say least go first. Colour repeats what a word says,
never says it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stream.clock import to_utc
from stream.watch.history import Sample
from stream.watch.state import Feed, Prefect, Problem, Shard, WatchState

BLOCKS = "▁▂▃▄▅▆▇█"
NARROW, MEDIUM = 72, 104
"""Widths below which columns are left out."""

STYLES = {
    "live": "green",
    "idle": "cyan",
    "lagging": "yellow",
    "silent": "yellow",
    "stalled": "bold red",
    "dead": "bold red",
    "stopped": "magenta",
    "never started": "dim",
}
MARKS = {
    "live": "●",
    "idle": "○",
    "lagging": "▲",
    "silent": "▲",
    "stalled": "✖",
    "dead": "✖",
    "stopped": "■",
    "never started": "·",
}


@dataclass(frozen=True, slots=True)
class Size:
    """Of the terminal, in characters."""

    width: int
    height: int


def draw(
    state: WatchState,
    samples: Mapping[str, Sequence[Sample]],
    size: Size,
    *,
    footer: str = "",
) -> Group:
    """The whole picture. Args: samples: per feed, oldest first, for the sparkline of lag."""
    parts: list[RenderableType | None] = [_headline(state), *_problems(state.problems)]
    started = [f for f in state.feeds if f.condition_now != "never started"]
    if started:
        parts.append(_feeds(started, samples, size))
        parts.append(_shards(started, size))
    parts += [_never(state.feeds), _last_commits(started, size), _runs(state.prefect, size)]
    if footer:
        parts.append(Text(footer, style="dim"))
    return Group(*(part for part in parts if part is not None))


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Values as blocks, the newest to the right; the highest of `width` columns is full.

    A column is the highest of its values; one without any is blank.

    >>> sparkline([0, 1, 2, 3, None, 7], 6)
    '▁▂▃▄ █'
    >>> sparkline([5, 5], 4), sparkline([], 4), sparkline([0, 0], 2)
    ('  ██', '    ', '▁▁')
    """
    count = max(1, -(-len(values) // max(1, width)))
    # Groups are counted from the newest, so that a column does not change while it moves left.
    groups = [values[max(0, end - count) : end] for end in range(len(values), 0, -count)][::-1]
    columns = [max((v for v in group if v is not None), default=None) for group in groups]
    top = max((v for v in columns if v is not None), default=0) or 1
    text = "".join(
        " " if v is None else BLOCKS[min(7, round(max(0.0, v) / top * 7))] for v in columns
    )
    return text.rjust(width)


def duration(ms: float | None) -> str:
    """For people, short.

    >>> duration(None), duration(0), duration(870), duration(12_340), duration(754_000)
    ('-', '0 s', '0.9 s', '12 s', '12m34s')
    >>> duration(7_500_000), duration(300_000_000)
    ('2h05m', '3d11h')
    """
    if ms is None:
        return "-"
    seconds = ms / 1000
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "0 s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 172_800:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02d}h"


def rate(value: float | None) -> str:
    """A number per second, three digits.

    >>> rate(None), rate(0.0), rate(0.25), rate(12.3), rate(1234.5), rate(2_500_000)
    ('-', '0', '0.25', '12', '1,234', '2.5 M')
    """
    if value is None:
        return "-"
    if value >= 1_000_000:
        return f"{value / 1_000_000:.1f} M"
    if value >= 10 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.2f}"


def clock_time(at_ms: int) -> str:
    """Hours, minutes, seconds, UTC."""
    return f"{to_utc(at_ms * 1_000_000):%H:%M:%S}"


def _headline(state: WatchState) -> Text:
    platform = state.platform
    at = f"{to_utc(state.at_ms * 1_000_000):%Y-%m-%d %H:%M:%S} UTC"
    text = Text.assemble(("headrace ", "bold"), (platform.phase, _phase_style(platform.phase)))
    if platform.phase in {"running", "starting"} and platform.endpoint:
        text.append(f"  AWS {platform.endpoint}", "dim")
    restarts = sum(process.restarts for process in platform.processes)
    if restarts and platform.phase == "running":
        text.append(f"  {restarts} restarts", "yellow")
    text.append(f"  {at}", "dim")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _phase_style(phase: str) -> str:
    return {"running": "green", "account": "green", "failed": "bold red"}.get(phase, "yellow")


def _problems(problems: Sequence[Problem]) -> list[Text]:
    if not problems:
        return [Text("no problems", style="green")]
    shown = [
        Text.assemble(("✖ ", "bold red"), (problem.what, "bold red"), f"  {problem.advice}")
        for problem in problems[:6]
    ]
    if len(problems) > len(shown):
        shown.append(Text(f"  and {len(problems) - len(shown)} more: --json lists all", "dim"))
    return shown


def _feeds(feeds: Sequence[Feed], samples: Mapping[str, Sequence[Sample]], size: Size) -> Table:
    table = _table()
    table.add_column("feed", no_wrap=True)
    table.add_column("now", no_wrap=True)
    table.add_column("lag", justify="right", no_wrap=True)
    wide = max(8, min(60, size.width - 92)) if size.width >= MEDIUM else 8
    table.add_column("lag, last minutes" if wide > 16 else "trend", no_wrap=True)
    table.add_column("fresh", justify="right", no_wrap=True)
    table.add_column("rec/s", justify="right", no_wrap=True)
    if size.width >= NARROW:
        table.add_column("msg/s", justify="right", no_wrap=True)
        table.add_column("rejects", justify="right", no_wrap=True)
        table.add_column("gaps", justify="right", no_wrap=True)
    if size.width >= MEDIUM:
        table.add_column("rows", justify="right", no_wrap=True)
        table.add_column("pulse", justify="right", no_wrap=True)
    for feed in feeds:
        history = [s.behind_ms for s in samples.get(feed.feed, ())][-wide * 5 :]
        cells: list[str | Text] = [
            feed.feed,
            _word(feed),
            _lag_text(feed.behind_ms, feed.freshness.target_ms),
            Text(sparkline(history, wide), style="cyan"),
            _fresh_text(feed),
            rate(feed.throughput.records_per_s),
        ]
        if size.width >= NARROW:
            rejected = sum(reject.count for reject in feed.rejects)
            cells.append(rate(feed.throughput.messages_per_s))
            cells.append(Text(f"{rejected:,}", style="yellow" if rejected else ""))
            cells.append(Text(f"{len(feed.gaps):,}", style="bold red" if feed.gaps else ""))
        if size.width >= MEDIUM:
            rows = feed.tables.rows
            cells.append("-" if rows is None else f"{rows:,}")
            cells.append(duration(feed.pulse_age_ms))
        table.add_row(*cells)
    return table


def _shards(feeds: Sequence[Feed], size: Size) -> Table | None:
    found = [(feed, shard) for feed in feeds for shard in feed.shards if not shard.is_ended]
    room = max(4, size.height - 16 - 2 * len(feeds))
    if not found:
        return None
    found.sort(key=lambda item: -(item[1].behind_ms or 0))  # stable: the worst come first
    table = _table()
    table.add_column("shard", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("behind", justify="right", no_wrap=True)
    table.add_column("backlog", justify="right", no_wrap=True)
    table.add_column("rec/s", justify="right", no_wrap=True)
    if size.width >= MEDIUM:
        table.add_column("committed position", no_wrap=True, overflow="ellipsis", max_width=32)
    for feed, shard in found[:room]:
        cells: list[str | Text] = [
            f"{feed.feed} {short_shard(shard.shard)}",
            shard.state,
            _lag_text(shard.behind_ms, feed.freshness.target_ms),
            _backlog(shard),
            rate(shard.records_per_s),
        ]
        if size.width >= MEDIUM:
            cells.append(shard.committed or "none yet")
        table.add_row(*cells)
    if len(found) > room:
        table.add_row(f"and {len(found) - room} more", "", "", "", "")
    return table


def short_shard(shard: str) -> str:
    """Without the words and zeros that all shards share.

    >>> short_shard("shardId-000000000012"), short_shard("part-7"), short_shard("shardId-0000")
    ('12', 'part-7', '0')
    """
    if not shard.startswith("shardId-"):
        return shard
    return shard.removeprefix("shardId-").lstrip("0") or "0"


def _backlog(shard: Shard) -> str:
    if shard.backlog is None:
        return "-"
    return f"{shard.backlog:,}{'+' if shard.is_capped else ''}"


def _word(feed: Feed) -> Text:
    style = STYLES[feed.condition_now]
    return Text(f"{MARKS[feed.condition_now]} {feed.condition_now}", style=style)


def _lag_text(behind_ms: int | None, target_ms: int) -> Text:
    style = "" if behind_ms is None or behind_ms <= target_ms else "bold yellow"
    return Text(duration(behind_ms), style=style)


def _fresh_text(feed: Feed) -> Text:
    silver = feed.freshness.silver_ms
    return Text(duration(silver), style="" if feed.freshness.is_fresh else "bold yellow")


def _never(feeds: Sequence[Feed]) -> Text | None:
    names = [feed.feed for feed in feeds if feed.condition_now == "never started"]
    if not names:
        return None
    return Text(f"never started: {', '.join(names)}  (headrace up {' '.join(names)})", style="dim")


def _last_commits(feeds: Sequence[Feed], size: Size) -> Table | None:
    commits = [(feed.feed, commit) for feed in feeds for commit in feed.commits]
    commits.sort(key=lambda item: -item[1].committed_ms)
    if not commits or size.height < 24:
        return None
    table = _table()
    for name in ("last commits", "kind", "at"):
        table.add_column(name, no_wrap=True)
    for name in ("records", "rows", "rejected", "dup."):
        table.add_column(name, justify="right", no_wrap=True)
    for feed, commit in commits[: min(8, size.height // 8)]:
        table.add_row(
            f"{feed} {commit.number}",
            commit.kind,
            clock_time(commit.committed_ms),
            *(f"{n:,}" for n in (commit.records, commit.silver_rows)),
            *(f"{n:,}" for n in (commit.rejected, commit.duplicates)),
        )
    return table


def _runs(prefect: Prefect, size: Size) -> Table | None:
    if prefect.state != "up" or not prefect.runs or size.height < 32:
        return None
    table = _table()
    for name in ("Prefect runs", "run", "state", "at", "took"):
        table.add_column(name, no_wrap=True)
    for run in prefect.runs[:4]:
        at = "-" if run.start_ms is None else clock_time(run.start_ms)
        table.add_row(run.flow, run.name, run.state, at, duration(run.duration_ms))
    return table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
