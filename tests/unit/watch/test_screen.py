"""The terminal's picture: everything that is known, at any width, whatever is missing."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stream.cli import headrace
from stream.cli.failure import run_command
from stream.watch.history import Sample
from stream.watch.screen import Size, draw
from stream.watch.state import (
    Commands,
    Commit,
    Cost,
    Feed,
    Freshness,
    Market,
    Platform,
    Prefect,
    PrefectRun,
    Problem,
    Process,
    Shard,
    Tables,
    Throughput,
    WatchState,
)

T0 = 1_764_000_000_000
SHARDS = tuple(
    Shard(f"shardId-{n:012d}", "behind", n * 1_000, n * 900, n * 10, n == 2, False, "495", 7.5)
    for n in range(3)
)
FEED = Feed(
    feed="trades",
    doc="Trades",
    condition_now="lagging",
    why="the oldest unread record arrived 2 s ago",
    pulse_age_ms=400,
    pid=1,
    market=Market("24/7", True, None),
    throughput=Throughput(1_234.0, 5_000.0, 1e6, 60_000),
    shards=SHARDS,
    freshness=Freshness(1, 2_000, 3, 4, 1_000, False),
    commits=(Commit(7, "slices", T0, 2, 1_000, 990, 10, 0, "ledger/x"),),
    rejects=(),
    gaps=(),
    days=(),
    cost=Cost(),
    tables=Tables(3, 2, 2, 123_456),
    commands=Commands("a", "b", "c"),
)
AWS = Process("aws", "running", 1, 0, 2, None, "")
STATE = WatchState(
    T0,
    Platform("running", "roto", "http://127.0.0.1:1", "", (AWS,)),
    (FEED, replace(FEED, feed="news", condition_now="never started", shards=(), commits=())),
    Prefect("up", "", (PrefectRun("maintain", "brave-otter", "Completed", T0, 1_000, ""),)),
    (Problem("trades is lagging", "trades", "add processes"),),
)  # fmt: skip


def text(state: WatchState, width: int = 120, height: int = 50) -> str:
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    samples = {"trades": [Sample(T0 - n * 1_000, n * 100) for n in range(100, 0, -1)]}
    console.print(draw(state, samples, Size(width, height), footer="q ends"))
    return console.export_text()


def test_picture_shows_what_is_known() -> None:
    shown = text(STATE)
    for expected in (
        "headrace running", "2 restarts", "2025-11-24 16:00:00 UTC", "trades is lagging",
        "add processes", "▲ lagging", "2.0 s", "1,234", "123,456", "trades 2", "20+", "7.50",
        "never started: news", "trades 7", "990", "brave-otter", "q ends",
    ):  # fmt: skip
        assert expected in shown
    assert shown.index("trades is lagging") < shown.index("trades 2") < shown.index("trades 7")


@pytest.mark.parametrize("width", [20, 40, 60, 72, 80, 104, 200])
def test_picture_is_never_wider_than_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in text(STATE, width, 20).splitlines())


def test_picture_of_many_shards_shows_the_worst() -> None:
    many = tuple(replace(SHARDS[1], shard=f"shardId-{n}", behind_ms=n) for n in range(400))
    shown = text(replace(STATE, feeds=(replace(FEED, shards=many),)), height=30)
    assert "trades 399" in shown
    assert "and 388 more" in shown
    assert len(shown.splitlines()) <= 36


def test_picture_of_nothing_known_is_whole() -> None:
    empty = replace(
        FEED,
        condition_now="stopped",
        throughput=Throughput(),
        shards=(Shard("a", "stream away", None, None, None, False, False, None),),
        freshness=Freshness(None, None, None, None, 1_000, False),
        commits=(),
        tables=Tables(),
        pulse_age_ms=None,
    )
    shown = text(WatchState(T0, Platform("stopped"), (empty,)))
    assert "■ stopped" in shown
    assert "no problems" in shown


def test_top_without_a_terminal_prints_one_picture(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(home))
    assert run_command(headrace, ["top", "trades", "--once"]) == 0
    assert "never started: trades" in capsys.readouterr().out
    assert run_command(headrace, ["top", "trades", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["feeds"][0]["condition_now"] == "never started"
    assert run_command(headrace, ["top", "tirades"]) == 2
    assert "Did you mean 'trades'?" in capsys.readouterr().err
    assert not home.exists()
