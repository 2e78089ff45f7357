"""The comparison of `scale.py` in its smallest form: every kind of case runs and is verified."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scale import Goal
from scale_input import Lanes, expected_figures, write_input

SCALE = Path(__file__).with_name("scale.py")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_scale_quick_runs_every_kind_of_case(tmp_path):
    plot = tmp_path / "scale.png"
    done = subprocess.run(
        [sys.executable, str(SCALE), "--quick", "--json", "--plot", str(plot)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert set(found["cases"]) == {"bytewax", "loop", "without exactly-once", "two processes"}
    assert found["by_copies"]["2"]["messages"] == 2 * found["cases"]["bytewax"]["messages"]
    assert found["by_shards"]["3"]["messages"] == found["cases"]["bytewax"]["messages"]
    assert len(found["goals"]) == 8
    assert plot.stat().st_size > 10_000


def test_lanes_of_every_layout_yield_the_same_messages_later_each_time(tmp_path):
    write_input(tmp_path, 4_000, [(1, 1_000), (5, 400)])
    times, messages = {}, {}
    for shards in (1, 5):
        lanes = Lanes(tmp_path / str(shards), copies=2)
        slices = []
        for lane in range(shards):
            while not lanes.is_finished(lane):
                slices.append(lanes.poll(lane))
        payload = b"".join(b"".join(s.records["payload"].to_pylist()) for s in slices)
        messages[shards] = sorted(payload.splitlines())
        times[shards] = {s.arrival_ns[0] // 10**12 for s in slices}
        assert all(s.prev is None or s.prev < s.first for s in slices)
    assert messages[1] == messages[5]
    assert times[1] == times[5] == {1_764_000, 1_764_001}
    assert expected_figures(tmp_path / "1") == expected_figures(tmp_path / "5")


def test_input_of_too_many_messages_says_what_to_ask_for(tmp_path):
    with pytest.raises(ValueError, match="at most 4,000,000; ask for more copies"):
        write_input(tmp_path, 5_000_000, [(1, 1)])


def test_goal_says_whether_it_is_reached():
    assert str(Goal("cost", 1.1, 1.05)).endswith("reached")
    assert "NOT reached" in str(Goal("rate", 1.6, 1.5, at_most=False))
