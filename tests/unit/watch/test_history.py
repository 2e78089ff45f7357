"""The ring of samples: bounded, whole after a kill, harmless with two writers."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stream.clock import ManualClock
from stream.watch.history import History, Sample

T0 = 1_764_000_000_000


def history(folder: Path, at_ms: int = T0 + 10**9, **options: int) -> History:
    return History(folder, clock=ManualClock(at_ms * 1_000_000), **options)


def test_history_reads_back_what_another_process_wrote(tmp_path: Path) -> None:
    written = [Sample(T0 + n * 1_000, n, 2 * n, n / 2) for n in range(5)]
    for sample in written:
        history(tmp_path).add("trades", sample)
    assert history(tmp_path).read("trades") == written
    assert history(tmp_path).read("trades", T0 + 3_000) == written[3:]
    assert history(tmp_path).read("quotes") == []


def test_history_read_again_sees_only_what_was_appended_and_all_of_it(tmp_path: Path) -> None:
    reader, writer = history(tmp_path), history(tmp_path)
    for n in range(4):
        writer.add("trades", Sample(T0 + n * 1_000, n))
        assert [s.behind_ms for s in reader.read("trades")] == list(range(n + 1))


@pytest.mark.parametrize("torn", [b'{"at_ms":1', b'{"at_ms":1}', b"\x00\xff", b"[1]", b'{"x":1}'])
def test_history_ignores_a_torn_or_foreign_line_and_goes_on(tmp_path: Path, torn: bytes) -> None:
    history(tmp_path).add("trades", Sample(T0, 1))
    path = history(tmp_path).path("trades")
    with path.open("ab") as file:
        file.write(torn)
    again = history(tmp_path)
    again.add("trades", Sample(T0 + 5_000, 2))
    found = [s for s in again.read("trades") if s.at_ms >= T0]
    assert [s.behind_ms for s in found] == [1, 2]


def test_history_stays_bounded(tmp_path: Path) -> None:
    ring = history(tmp_path, kept=50, max_bytes=8_000)
    for n in range(1_000):
        ring.add("trades", Sample(T0 + n * 1_000, n, n, float(n)))
    assert ring.path("trades").stat().st_size <= 8_000 + 100
    found = ring.read("trades")
    assert 50 <= len(found) <= 130
    assert [s.behind_ms for s in found] == list(range(1_000 - len(found), 1_000))


def test_history_of_two_watchers_is_as_dense_as_that_of_one(tmp_path: Path) -> None:
    one, two = history(tmp_path), history(tmp_path)
    for n in range(20):
        one.add("trades", Sample(T0 + n * 1_000))
        two.add("trades", Sample(T0 + n * 1_000 + 300))
    assert len(one.read("trades")) == 20


def test_history_goes_on_after_the_clock_was_set_back(tmp_path: Path) -> None:
    history(tmp_path, T0 + 10**9).add("trades", Sample(T0 + 10**9))
    history(tmp_path, T0).add("trades", Sample(T0))
    assert [s.at_ms for s in history(tmp_path).read("trades")] == [T0, T0 + 10**9]


def _write(folder: str, offset: int) -> None:
    ring = history(Path(folder), kept=100, max_bytes=10_000)
    for n in range(300):
        ring.add("trades", Sample(T0 + n * 2_000 + offset, n, offset))


def test_history_of_two_writers_at_once_holds_whole_samples_only(tmp_path: Path) -> None:
    writers = [threading.Thread(target=_write, args=(str(tmp_path), at)) for at in (0, 1_000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    ring = history(tmp_path, kept=100, max_bytes=10_000)
    for sample in ring.read("trades"):
        assert sample.freshness_ms is not None
        assert sample.behind_ms is not None
        assert sample.at_ms == T0 + sample.behind_ms * 2_000 + sample.freshness_ms
    ring.add("trades", Sample(T0 + 10**6))  # nobody compacts now: what lay beyond the bound goes
    assert ring.path("trades").stat().st_size <= 10_000
