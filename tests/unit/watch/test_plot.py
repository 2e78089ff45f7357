"""The picture of a range: what is drawn where, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream.cli import headrace
from stream.cli.failure import run_command
from stream.errors import ConfigError
from stream.watch.ledger_history import Delay, Event, FeedHistory, LagLine, Rate
from stream.watch.plot import ALARM, COLOURS, Plotted, build_figure, draw_png, line_points, worst

T0 = 1_764_000_000_000  # 2025-11-24 16:00 UTC: New York is open until 21:00
HOUR = 3_600_000
SAW = LagLine("shardId-000000000001", ((T0, 0), (T0 + 10_000, 10_000), (T0 + 10_000, 0)))
FLAT = LagLine("shardId-000000000002", ((T0, 4_000), (T0 + HOUR, 4_000)))
HISTORY = FeedHistory(
    "trades",
    T0,
    T0 + 8 * HOUR,
    lags=(SAW, FLAT),
    delays=(Delay(T0 + 10_000, 2_000, 10_000),),
    rates=(Rate(T0, T0 + 10_000, 50.0),),
    gaps=(Event(T0 + 20_000, 1, "lost"),),
    rejects=(Event(T0 + 10_000, 3, "3 rejected"),),
)
PLOTTED = Plotted(HISTORY, 15_000, "XNYS")


def words(figure: Any) -> list[str]:
    found = [item.get_text() for item in figure.findobj(lambda a: hasattr(a, "get_text"))]
    return [word for word in found if word]


def test_lag_line_falls_within_a_millisecond() -> None:
    times, lags = line_points(SAW)
    assert times.tolist() == [T0, T0 + 10_000, T0 + 10_001]
    assert lags.tolist() == [0.0, 10.0, 0.0]


def test_worst_shard_is_the_highest_at_every_time() -> None:
    times, lags = worst([SAW, FLAT])
    found = dict(zip(times.tolist(), lags.tolist(), strict=True))
    assert found[T0] == 4.0
    assert found[T0 + 10_000] == 10.0
    assert found[T0 + 10_001] == 4.0
    assert worst([])[0].size == 0


def test_figure_has_three_panels_over_one_time_and_says_what_they_mean() -> None:
    figure = build_figure([PLOTTED])
    lag, fresh, rate = figure.axes
    assert lag.get_xlim() == fresh.get_xlim() == rate.get_xlim()
    assert lag.get_xlim() == (T0 / 86_400_000, (T0 + 8 * HOUR) / 86_400_000)
    shown = words(figure)
    for expected in (
        "trades", "Lag", "Freshness", "Throughput", "target 15 s", "shard 1", "shard 2",
        "records lost", "time, UTC", "2025-11-24 16:00:00 to 2025-11-25 00:00:00 UTC",
    ):  # fmt: skip
        assert expected in shown
    assert any("3 messages rejected" in word and "market closed" in word for word in shown)


def test_figure_shades_when_the_market_was_closed_and_marks_gaps() -> None:
    lag = build_figure([PLOTTED]).axes[0]
    [shade] = lag.patches
    assert shade.get_x() == pytest.approx((T0 + 5 * HOUR) / 86_400_000)
    assert [line for line in lag.lines if line.get_color() == ALARM]
    always = build_figure([replace(PLOTTED, calendar="24/7")])
    assert not always.axes[0].patches


def test_figure_of_many_shards_names_only_the_worst() -> None:
    many = tuple(replace(FLAT, shard=f"s{n}") for n in range(40))
    figure = build_figure([replace(PLOTTED, history=replace(HISTORY, lags=many))])
    assert not [word for word in words(figure) if word.startswith("shard ")]
    assert COLOURS[0] in {line.get_color() for line in figure.axes[0].lines}


def test_figure_of_several_feeds_names_each() -> None:
    other = replace(PLOTTED, history=replace(HISTORY, feed="quotes"), target_ms=60_000)
    shown = words(build_figure([PLOTTED, other]))
    assert {"trades", "quotes", "trades, quotes", "target 15 s"} <= set(shown)


def test_empty_range_is_refused_with_what_to_do(tmp_path: Path) -> None:
    nothing = replace(HISTORY, delays=(), gaps=(), lags=(), rates=(), rejects=())
    with pytest.raises(ConfigError, match="nothing to draw: trades committed nothing between"):
        draw_png([replace(PLOTTED, history=nothing)], tmp_path / "lag.png")
    assert not list(tmp_path.iterdir())


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write .*file/lag\.png"):
        draw_png([PLOTTED], tmp_path / "file" / "lag.png")


def test_plot_draws_a_png_of_a_lake_in_a_folder(
    small_lake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    small_lake.land_trades(10)
    monkeypatch.setenv("HEADRACE_HOME", str(small_lake.settings.home))
    monkeypatch.setenv("HEADRACE_LAKE", small_lake.settings.lake)
    output = tmp_path / "out" / "lag.png"
    whole = ["--from", "2025-11-24T15:59", "--to", "2025-11-24T16:10", "--output", str(output)]
    assert run_command(headrace, ["plot", "trades", *whole]) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    assert run_command(headrace, ["plot", "trades", "--output", str(output)]) == 2
    assert "nothing to draw" in capsys.readouterr().err
    assert run_command(headrace, ["plot", "trades", "--from", "soon"]) == 2
    assert run_command(headrace, ["plot", "trades", "--from", "2099-01-01"]) == 2
