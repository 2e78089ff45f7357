"""N processes on one machine, broken in every way under load: all rows once, and proved."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from stream.slices import ShardRef
from stream.sources.kinesis import KinesisReader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_gang_killed_frozen_and_resharded_loses_and_doubles_nothing(
    platform: Any, load: Any
) -> None:
    gang = platform.run("--processes", "2")
    faults = [
        (1, signal.SIGKILL, load.split),
        (0, signal.SIGKILL, load.merge),
        (0, signal.SIGSTOP, lambda: None),
    ]
    seen: list[int] = []
    for index, number, reshard in faults:
        members = gang.members(2, but=seen)
        gang.commits_again()
        reshard()
        seen += [member.pid for member in members]
        os.kill(members[index].pid, number)
    gang.members(2, but=seen)
    gang.commits_again()
    expected = load.finish()
    gang.has_rows(expected.num_rows)
    said = gang.log.read_text(errors="replace")
    assert said.count(": all of them start again in ") >= 3, gang.words()
    assert "no epoch ended for 15 s" in said, "the frozen one's peer says why it left"
    assert gang.stop() == 0, gang.words()
    platform.check_all(expected)
    assert platform.ended_shards() == 3  # a split closes one shard, a merge two
    assert set(platform.parents()) == set(_children(platform)), "recorded by whoever saw them"


def test_gang_rescaled_from_2_to_3_to_1_process_goes_on_where_it_was(
    platform: Any, load: Any
) -> None:
    for processes in (2, 3):
        gang = platform.run(HEADRACE_PROCESSES=str(processes))
        parts = gang.members(processes, readers=2)
        lanes = [{shard["lane"] for shard in part.shards} for part in parts]
        assert len(set.union(*lanes)) == sum(map(len, lanes)), "two processes read one lane"
        gang.commits_again()
        assert gang.stop() == 0, gang.words()
        load.split()
    alone = platform.run()
    alone.commits_again()
    expected = load.finish()
    alone.has_rows(expected.num_rows)
    assert alone.stop() == 0, alone.words()
    platform.check_all(expected)


def test_gang_with_a_wrong_configuration_ends_and_says_it_once_per_process(platform: Any) -> None:
    gang = platform.run("--processes", "2", HEADRACE_STREAM_PREFIX="nothing-here-")
    assert gang.process.wait(120) == 2, gang.words()
    assert "nothing-here-trades" in gang.words()
    assert "start again" not in gang.words()


def _children(platform: Any) -> list[str]:
    reader = KinesisReader(platform.settings.stream_name("trades"))
    stream = str(reader.identity)
    return [str(ShardRef("trades", stream, s.shard)) for s in reader.list_shards() if s.parents]
