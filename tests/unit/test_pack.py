"""Packing: order per key, nothing lost, sizes kept."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.producers.pack import Pack, Packer, PackRule, merge, partition_key

KEYS = st.sampled_from(["sim:0", "sim:1", "kraken:0"])
LINES = st.binary(min_size=1, max_size=40).filter(lambda line: b"\n" not in line)


def lines_of(packs: list[Pack], key: str) -> list[bytes]:
    return [line for pack in packs if pack.key == key for line in pack.data.split(b"\n")]


@given(
    st.lists(st.tuples(KEYS, LINES), max_size=200),
    st.integers(1, 120),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_packer_any_messages_keeps_each_once_in_order_per_key(messages, max_bytes, looks):
    packer = Packer(PackRule(max_bytes=max_bytes, linger_seconds=5))
    packs: list[Pack] = []
    for at, (key, line) in enumerate(messages):
        packs += packer.add(key, line, float(at))
        if at in looks:
            packs += packer.due(float(at))
    packs += packer.flush()
    assert len(packer) == 0
    for key in ("sim:0", "sim:1", "kraken:0"):
        assert lines_of(packs, key) == [line for k, line in messages if k == key]
    for pack in packs:
        assert pack.messages == pack.data.count(b"\n") + 1
        assert len(pack.data) <= max_bytes or pack.messages == 1


def test_packer_larger_message_forms_its_own_record():
    packer = Packer(PackRule(max_bytes=10))
    assert packer.add("k", b"small", 0.0) == []
    packs = packer.add("k", b"x" * 50, 0.0)
    assert packs == [Pack("k", b"small", 1), Pack("k", b"x" * 50, 1)]


def test_packer_message_with_newline_never_shares_a_record():
    packer = Packer()
    packs = packer.add_many([("k", b"a"), ("k", b'{"x":\n1}'), ("k", b"b")], 0.0)
    assert packs == [Pack("k", b"a", 1), Pack("k", b'{"x":\n1}', 1)]
    assert not packs[1].is_open
    assert packer.flush() == [Pack("k", b"b", 1)]


def test_packer_due_gives_packs_whose_oldest_message_waited():
    packer = Packer(PackRule(linger_seconds=0.1))
    packer.add("old", b"1", 0.0)
    packer.add("new", b"2", 0.09)
    assert packer.due(0.05) == []
    assert [pack.key for pack in packer.due(0.1)] == ["old"]
    assert len(packer) == 1


def test_merge_packs_of_a_key_joins_them_in_order():
    assert merge([Pack("k", b"a\nb", 2), Pack("k", b"c", 1)]) == Pack("k", b"a\nb\nc", 3)


def test_partition_key_same_symbol_stays_in_one_bucket_and_symbols_spread():
    keys = [partition_key("sim", f"S{i}", 8) for i in range(400)]
    assert keys == [partition_key("sim", f"S{i}", 8) for i in range(400)]
    sizes = [len(list(group)) for _, group in groupby(sorted(keys))]
    assert len(sizes) == 8
    assert max(sizes) < 3 * min(sizes)


def test_pack_rule_nonsense_is_refused():
    with pytest.raises(ValueError, match="max_bytes"):
        PackRule(max_bytes=0)
