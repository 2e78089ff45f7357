"""One process per address, as on hosts of their own: each leaves with a code that says restart."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_process_whose_peer_is_killed_leaves_at_once_and_a_restart_of_both_goes_on(
    platform: Any, load: Any, addresses: str
) -> None:
    one, two = _start(platform, addresses)
    one.members(2)  # or it would be killed before they met, and the other would wait for the next
    one.commits_again()
    two.process.send_signal(signal.SIGKILL)
    assert one.process.wait(60) == 1, one.words()
    assert "lost another process of its cluster" in one.words()
    one, two = _start(platform, addresses)
    one.commits_again()
    expected = load.finish()
    one.has_rows(expected.num_rows)
    assert platform.stop_all(one, two) == [0, 0], one.words() + two.words()
    platform.check_all(expected)


def test_process_whose_peer_never_comes_waits_hears_a_stop_and_leaves_after_its_limit(
    platform: Any,
    load: Any,
    addresses: str,
) -> None:
    alone = platform.run("--process-index", "1", "--addresses", addresses)
    impatient = platform.run(
        *("--process-index", "1", "--addresses", f"127.0.0.1:1,{addresses.partition(',')[0]}"),
        HEADRACE_HOME=str(platform.folder / "other"),
        HEADRACE_STALL_SECONDS="1",
    )
    assert impatient.process.wait(200) == 1, impatient.words()
    assert "another process of the cluster was missing" in impatient.words()
    assert alone.process.poll() is None, alone.words()
    began = time.monotonic()
    assert alone.stop() == 0, alone.words()
    print(f"stopped after {time.monotonic() - began:.1f} s")
    assert platform.rows() == 0


def _start(platform: Any, addresses: str) -> list[Any]:
    patient = {"HEADRACE_STALL_SECONDS": "200"}  # a kill is noticed at once, by the connection
    return [
        platform.run("--process-index", str(index), "--addresses", addresses, **patient)
        for index in (0, 1)
    ]
