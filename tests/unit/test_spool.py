"""The disk spool: order, bounds, crashes, torn and damaged files."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.producers.pack import Pack
from stream.producers.spool import Spool


def numbered(count: int, start: int = 0) -> list[Pack]:
    return [Pack(f"k{n % 3}", b"%d" % n, 1) for n in range(start, start + count)]


def crash(spool: Spool) -> None:
    """What kill -9 leaves: closed handles, no flush, no fsync."""
    os.close(spool._file)
    os.close(spool._lock)


def test_spool_packs_come_back_in_order_and_unchanged(tmp_path):
    spool = Spool(tmp_path, max_bytes=100_000)
    packs = [Pack("käy", b"\x00\xff\nline", 2), *numbered(20)]
    assert all(map(spool.append, packs))
    assert spool.read(1_000_000) == packs
    assert not spool.is_empty
    spool.acknowledge()
    assert spool.is_empty
    assert spool.read(1_000) == []
    spool.close()


def test_spool_read_twice_without_acknowledge_gives_the_same(tmp_path):
    spool = Spool(tmp_path, max_bytes=100_000)
    list(map(spool.append, numbered(10)))
    assert spool.read(1) == spool.read(1) == numbered(1)
    spool.close()


def test_spool_after_restart_continues_at_the_acknowledged_position(tmp_path):
    spool = Spool(tmp_path, max_bytes=100_000)
    list(map(spool.append, numbered(5)))
    spool.read(1)
    spool.acknowledge()
    crash(spool)
    again = Spool(tmp_path, max_bytes=100_000)
    assert again.read(1_000_000) == numbered(4, start=1)
    again.close()


def test_spool_full_refuses_with_one_error_line_and_takes_again_later(tmp_path, caplog):
    spool = Spool(tmp_path, max_bytes=2_000, segment_bytes=500)
    taken = 0
    with caplog.at_level(logging.ERROR):
        while spool.append(Pack("k", b"x" * 100, 1)):
            taken += 1
        assert not spool.append(Pack("k", b"x" * 100, 1))
    assert spool.size_bytes <= 2_000
    assert len(caplog.records) == 1
    assert "held back" in caplog.text
    while spool.read(600):
        spool.acknowledge()
    assert spool.append(Pack("k", b"x" * 100, 1))
    spool.close()


def test_spool_drained_takes_no_room(tmp_path):
    spool = Spool(tmp_path, max_bytes=100_000, segment_bytes=100)
    list(map(spool.append, numbered(50)))
    assert len(list(tmp_path.glob("*.spool"))) > 3
    spool.read(1_000_000)
    spool.acknowledge()
    assert [path.stat().st_size for path in tmp_path.glob("*.spool")] == [0]
    assert spool.size_bytes == 0
    spool.close()


@pytest.mark.parametrize("cut", [1, 5, 9, 14])
def test_spool_torn_tail_is_cut_and_the_rest_kept(tmp_path, cut):
    spool = Spool(tmp_path, max_bytes=100_000)
    list(map(spool.append, numbered(3)))
    crash(spool)
    path = next(tmp_path.glob("*.spool"))
    os.truncate(path, path.stat().st_size - cut)
    again = Spool(tmp_path, max_bytes=100_000)
    assert again.read(1_000_000) == numbered(2)
    assert again.append(Pack("k", b"new", 1))
    assert again.read(1_000_000) == [*numbered(2), Pack("k", b"new", 1)]
    again.close()


def test_spool_damage_before_the_tail_is_named_and_kept_for_a_person(tmp_path, caplog):
    spool = Spool(tmp_path, max_bytes=100_000, segment_bytes=60)
    list(map(spool.append, numbered(20)))
    crash(spool)
    first = min(tmp_path.glob("*.spool"))
    data = bytearray(first.read_bytes())
    data[-1] ^= 0xFF
    first.write_bytes(data)
    again = Spool(tmp_path, max_bytes=100_000, segment_bytes=60)
    with caplog.at_level(logging.ERROR):
        packs = again.read(1_000_000)
    assert "NOT published" in caplog.text
    assert first.with_suffix(".damaged").exists()
    assert packs[-1] == numbered(20)[-1]
    assert len(packs) < 20
    again.close()


def test_spool_disk_without_room_refuses_instead_of_failing(tmp_path, monkeypatch):
    spool = Spool(tmp_path, max_bytes=100_000)
    spool.append(Pack("k", b"before", 1))
    real = os.write

    def no_room(handle, data):
        real(handle, data[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", no_room)
    assert not spool.append(Pack("k", b"lost?", 1))
    monkeypatch.setattr(os, "write", real)
    assert spool.append(Pack("k", b"after", 1))
    assert [pack.data for pack in spool.read(1_000)] == [b"before", b"after"]
    spool.close()


def test_spool_folder_in_use_or_unusable_is_a_config_error(tmp_path):
    spool = Spool(tmp_path / "a", max_bytes=1_000)
    with pytest.raises(ConfigError, match="another producer"):
        Spool(tmp_path / "a", max_bytes=1_000)
    spool.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="writable folder"):
        Spool(tmp_path / "file" / "b", max_bytes=1_000)


def test_spool_kill_nine_while_writing_keeps_what_append_returned(tmp_path):
    code = (
        "import sys, pathlib; from stream.producers.pack import Pack\n"
        "from stream.producers.spool import Spool\n"
        "s = Spool(pathlib.Path(sys.argv[1]), max_bytes=10**9, segment_bytes=5_000)\n"
        "n = 0\n"
        "while s.append(Pack('k', b'%d' % n, 1)):\n"
        "    print(n, flush=True); n += 1\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(500):
            last = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split(b"\n")
        last = max([last, *(int(line) for line in rest[:-1])])
    spool = Spool(tmp_path, max_bytes=10**9)
    found = [int(pack.data) for pack in spool.read(10**9)]
    assert found == list(range(len(found)))
    assert len(found) > last
    spool.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 5)),
        st.tuples(st.just("drain"), st.integers(1, 200)),
        st.tuples(st.just("fail"), st.integers(1, 200)),  # read, sent in part, not acknowledged
        st.tuples(st.just("crash"), st.integers(0, 10)),  # and that many bytes of a torn write
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_spool_any_interleaving_publishes_all_at_least_once_in_order_per_key(steps):
    folder = Path(tempfile.mkdtemp())
    options = {"max_bytes": 10_000, "segment_bytes": 90}
    spool = Spool(folder, **options)
    put: list[Pack] = []
    sent: list[Pack] = []
    try:
        for kind, size in steps:
            if kind == "put":
                packs = numbered(size, start=len(put))
                put += [pack for pack in packs if spool.append(pack)]
            elif kind == "drain":
                sent += spool.read(size)
                spool.acknowledge()
            elif kind == "fail":
                packs = spool.read(size)
                sent += packs[: len(packs) // 2]
            else:
                os.write(spool._file, b"\x00\x00\x00\x09garbage"[:size])
                crash(spool)
                spool = Spool(folder, **options)
        while packs := spool.read(100):
            sent += packs
            spool.acknowledge()
        assert spool.is_empty
    finally:
        spool.close()
        shutil.rmtree(folder)
    for key in ("k0", "k1", "k2"):
        firsts = list(dict.fromkeys(pack.data for pack in sent if pack.key == key))
        assert firsts == [pack.data for pack in put if pack.key == key]
