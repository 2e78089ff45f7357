"""`headrace bench`: what it writes, how it judges, and that a wrong figure is never shown."""

import json

import pytest

from stream.cli import bench, headrace
from stream.cli.failure import run_command
from stream.cli.measure import SHARDS, WrittenLanes, _compare
from stream.errors import FatalError
from stream.flow import Tally


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, home):
    monkeypatch.setenv("HEADRACE_HOME", str(home))


def test_lanes_hold_every_message_once_in_slices_that_follow_each_other(tmp_path):
    lanes = WrittenLanes("trades")
    truth = lanes.write(tmp_path / "slices", 3_000, 7)
    messages = 0
    for lane in range(SHARDS):
        last = None
        while (item := lanes.poll(lane)) is not None:
            assert item.prev == last
            last = item.last
            messages += sum(data.count(b"\n") + 1 for data in item.records["payload"].to_pylist())
        assert lanes.is_finished(lane)
    # A message that holds newlines itself is a record of its own, and counts them.
    assert truth.messages == 3_000
    assert 3_000 <= messages < 3_010


def test_same_seed_writes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        WrittenLanes("trades").write(tmp_path / name, 2_000, 3)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == SHARDS
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )


def test_output_that_differs_from_the_input_is_a_fault_with_both_figures(tmp_path):
    truth = WrittenLanes("trades").write(tmp_path / "slices", 1_000, 7)
    tally = Tally(messages=truth.messages, silver_rows=truth.rows - 1)
    with pytest.raises(FatalError, match=rf"'rows': {truth.rows - 1}.*'rows': {truth.rows}"):
        _compare(tally, truth)


def test_peers_without_a_clone_says_where_they_come_from(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "COMPARE", tmp_path / "a" / "b" / "c" / "compare.py")
    assert run_command(headrace, ["bench", "--peers"]) == 2
    assert "clone it and run `headrace bench --peers` there" in capsys.readouterr().err


def test_peers_of_another_feed_is_a_usage_error(capsys):
    assert run_command(headrace, ["bench", "quotes", "--peers"]) == 2
    assert "compares one job, that of trades" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_measures_and_leaves_nothing_behind(capsys, home):
    assert run_command(headrace, ["bench", "--messages", "5000", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)[0]
    assert one["messages"] == 5_000
    assert one["silver_rows"] + one["duplicates"] + one["rejected"] == 5_000
    assert one["commits"] >= 1
    assert one["cpu_seconds"] > 0
    assert one["bytes_written"] > 0
    assert not list(home.rglob("*.parquet"))
