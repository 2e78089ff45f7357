"""The pulse of a dataflow: written whole, read back, stale when its writer is gone."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from stream.clock import ManualClock
from stream.errors import ConfigError
from stream.heartbeat import Heartbeat, Pulse, pulse_path, read_pulse

NOW_NS = 1_764_000_000_000_000_000


def beat(age_seconds: float = 0.5) -> dict[str, Any]:
    return {
        "epoch_age_seconds": age_seconds,
        "tally": {"messages": 7, "rejected": {"bad_json": 1}},
        "shards": [{"shard": {"shard": "shardId-000000000000"}, "behind_ms": None}],
    }


def heart(home: Path, clock: ManualClock, **options: Any) -> Heartbeat:
    path = pulse_path(home, "trades")
    path.parent.mkdir(parents=True, exist_ok=True)
    return Heartbeat(path, "trades", options.get("beat", beat), clock)


def test_pulse_reads_back_as_it_was_written(home: Path) -> None:
    clock = ManualClock(NOW_NS)
    heart(home, clock).write()

    pulse = read_pulse(home, "trades")

    assert pulse == Pulse("trades", os.getpid(), NOW_NS // 1_000_000, **beat())


def test_pulse_ages_until_it_is_written_again(home: Path) -> None:
    clock = ManualClock(NOW_NS)
    writer = heart(home, clock)
    writer.write()
    clock.sleep(20)
    stale = read_pulse(home, "trades")
    assert stale is not None
    assert stale.age_seconds(clock) == 20

    writer.write()

    fresh = read_pulse(home, "trades")
    assert fresh is not None
    assert fresh.age_seconds(clock) == 0


def test_pulse_of_a_feed_that_never_ran_is_none(home: Path) -> None:
    assert read_pulse(home, "trades") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"feed": "trades"}', b"\xff"])
def test_pulse_that_is_damaged_is_none(home: Path, content: bytes) -> None:
    path = pulse_path(home, "trades")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert read_pulse(home, "trades") is None


def test_pulse_is_replaced_whole_so_that_a_reader_never_sees_half_of_one(home: Path) -> None:
    clock = ManualClock(NOW_NS)
    long = {**beat(), "shards": beat()["shards"] * 500}
    writer = heart(home, clock, beat=lambda: long)
    writer.write()
    ended = threading.Event()

    def write_all_the_time() -> None:
        while not ended.is_set():
            writer.write()

    thread = threading.Thread(target=write_all_the_time)
    thread.start()
    try:
        assert all(read_pulse(home, "trades") is not None for _ in range(300))
    finally:
        ended.set()
        thread.join()


def test_heartbeat_beats_until_it_is_stopped_and_then_leaves_no_pulse(home: Path) -> None:
    clock = ManualClock(NOW_NS)
    beats: list[int] = []

    def count() -> dict[str, Any]:
        beats.append(1)
        return beat()

    writer = Heartbeat(pulse_path(home, "trades"), "trades", count, clock)
    writer.start()  # makes the folder
    assert read_pulse(home, "trades") is not None
    deadline = time.monotonic() + 5
    while len(beats) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)

    writer.stop()

    assert len(beats) >= 2
    assert read_pulse(home, "trades") is None


@pytest.mark.parametrize(
    "error", [RuntimeError("dictionary changed size during iteration"), OSError(28, "disk full")]
)
def test_heartbeat_survives_a_beat_that_fails(home: Path, error: Exception) -> None:
    clock = ManualClock(NOW_NS)
    beats: list[int] = []

    def fail_the_second() -> dict[str, Any]:
        beats.append(1)
        if len(beats) == 2:
            raise error
        return beat()

    writer = Heartbeat(pulse_path(home, "trades"), "trades", fail_the_second, clock)
    writer.start()
    deadline = time.monotonic() + 6
    while len(beats) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    writer.stop()
    assert len(beats) >= 3


def test_heartbeat_whose_folder_cannot_be_made_refuses_to_start(home: Path) -> None:
    home.write_bytes(b"a file, not a folder")
    with pytest.raises(ConfigError, match=r"cannot write .*HEADRACE_HOME"):
        Heartbeat(pulse_path(home, "trades"), "trades", beat, ManualClock(NOW_NS)).start()
