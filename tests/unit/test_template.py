"""Templates: what is learned from one message, and which others equal it."""

from __future__ import annotations

import numpy as np
import pytest

from stream.decode.lines import PAD
from stream.decode.plan import plan_of
from stream.decode.template import Template, learn_template, match_template
from stream.feeds import load_feed

GRAMMAR = plan_of(load_feed("trades")).grammar
TRADE = (
    b'{"venue":"sim","symbol":"ACME","trade_id":"1","ts_event_ns":1764000000000000000,'
    b'"price":101.25,"size":10,"side":"buy"}'
)


def matched(template: Template, lines: list[bytes]) -> list[bytes]:
    data = b" " * PAD + b"\n".join(lines) + b" " * PAD
    end = np.cumsum([len(line) + 1 for line in lines]) - 1 + PAD
    start = end - [len(line) for line in lines]
    found = match_template(
        template, np.frombuffer(data, np.uint8), start, end, np.arange(len(lines))
    )
    return [lines[i] for i in found.lines[found.alive].tolist()]


def learned(line: bytes) -> Template:
    template = learn_template(GRAMMAR, line)
    assert template is not None
    return template


def test_literals_and_slots_of_a_template_make_up_its_message() -> None:
    template = learned(TRADE)
    assert [slot.path[-1] for slot in template.slots] == [
        "venue", "symbol", "trade_id", "ts_event_ns", "price", "size", "side",
    ]  # fmt: skip
    assert sum(map(len, template.literals)) + sum(s.size for s in template.slots) == len(TRADE)


def test_values_that_decide_the_shape_are_literals() -> None:
    template = learned(
        b'{"type":"match","trade_id":1,"side":"buy","size":"1","price":"1","product_id":"X-Y",'
        b'"time":"2025-11-24T16:00:00Z"}'
    )
    assert b'"type":"match"' in template.literals[0]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nope",
        TRADE[:-1],
        TRADE.replace(b"ACME", b"AC\\u0041"),
        TRADE.replace(b'"price"', b'"size"'),
        TRADE.replace(b"101.25", b'"101.25"'),
        b'{"guid":"1"}',
    ],
)
def test_message_that_is_rejected_or_holds_an_escape_teaches_nothing(line: bytes) -> None:
    assert learn_template(GRAMMAR, line) is None


@pytest.mark.parametrize(
    "line",
    [
        TRADE,
        TRADE.replace(b"ACME", b""),
        TRADE.replace(b"ACME", b"A" * 500),
        TRADE.replace(b"101.25", b"1"),
        TRADE.replace(b'"1"', b'"' + b"7" * 16 + b'"'),
    ],
)
def test_message_of_the_same_structure_matches(line: bytes) -> None:
    assert matched(learned(TRADE), [line]) == [line]


@pytest.mark.parametrize(
    "line",
    [
        TRADE + b" ",
        b" " + TRADE,
        TRADE[:-1],
        TRADE + b"}",
        TRADE.replace(b"symbol", b"Symbol"),
        TRADE.replace(b'"size"', b' "size"'),
        TRADE.replace(b'"ACME"', b"null"),
        TRADE.replace(b'"size":10,', b""),
        TRADE[:40],
        b"",
    ],
)
def test_message_of_another_structure_does_not_match(line: bytes) -> None:
    assert matched(learned(TRADE), [TRADE, line, TRADE]) == [TRADE, TRADE]


def test_message_cut_short_never_matches_with_the_next_one() -> None:
    half = len(TRADE) // 2
    assert matched(learned(TRADE), [TRADE[:half], TRADE[half:], TRADE]) == [TRADE]


def test_few_and_many_strangers_leave_the_others_matched() -> None:
    strangers = [TRADE.replace(b"side", b"edis"), b"x", TRADE.replace(b"price", b"prize")]
    for share in (1, 5, 100):
        lines = [*[TRADE] * 20, *strangers * share, *[TRADE] * 20]
        assert matched(learned(TRADE), lines) == [TRADE] * 40
