"""Each value kind: what it accepts, exactly, and why it refuses the rest."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from stream.decode.values import KINDS
from stream.errors import RecordRejected
from stream.feeds.contract import REASONS

PRICE = {"scale": 8, "precision": 18}


@pytest.mark.parametrize(
    ("kind", "value", "options", "stored"),
    [
        ("text", "é", {}, "é"),
        ("text", "", {"empty": True}, ""),
        ("symbol", "xbt/usd", {}, "XBT-USD"),
        ("symbol", "straße", {}, "STRAßE"),
        ("text_list", ["acme", "BTC"], {"upper": True}, "ACME,BTC"),
        ("integer", -5, {}, -5),
        ("integer_text", "12", {}, 12),
        ("integer_as_text", 12, {"prefix": "a"}, "a12"),
        ("decimal", 10, PRICE, 1_000_000_000),
        ("decimal", Decimal("1E-8"), PRICE, 1),
        ("decimal", Decimal("-0.0"), PRICE, 0),
        ("decimal", Decimal("1.10000000000"), PRICE, 110_000_000),
        ("decimal_text", "9999999999.99999999", PRICE, 999_999_999_999_999_999),
        ("enum", "b", {"values": {"b": "buy"}}, "buy"),
        ("bool_enum", True, {"values": {True: "sell", False: "buy"}}, "sell"),
        ("iso_time", "1970-01-01T00:00:01.5Z", {}, 1_500_000_000),
        ("iso_time", "1970-01-01T02:00:00.000000001+01:30", {}, 1_800_000_000_001),
        ("date_time_assumed_utc", "1970-01-02 00:00:00", {}, 86_400_000_000_000),
        ("rfc822_time", "Thu, 01 Jan 1970 00:00:01 GMT", {}, 1_000_000_000),
        ("epoch_s_text", "1534614057.321597", {}, 1_534_614_057_321_597_000),
        ("epoch_ms", 1, {}, 1_000_000),
        ("epoch_us", Decimal("1.5"), {}, 1_500),
        ("epoch_ns", 2**63 - 1, {}, 2**63 - 1),
    ],
)
def test_kind_reads_value_exactly(
    kind: str, value: Any, options: dict[str, Any], stored: object
) -> None:
    assert KINDS[kind].parse(value, options) == stored


@pytest.mark.parametrize(
    ("kind", "value", "options", "reason"),
    [
        ("text", 1, {}, "wrong_type"),
        ("text", "", {}, "bad_value"),
        ("text", "\ud800", {}, "bad_value"),
        ("text_list", "A,B", {}, "wrong_type"),
        ("integer", True, {}, "wrong_type"),
        ("integer", Decimal("1.0"), {}, "wrong_type"),
        ("integer", 2**63, {}, "out_of_range"),
        ("integer_text", "01", {}, "not_a_number"),
        ("integer_text", "9" * 40, {}, "out_of_range"),
        ("decimal", "1", PRICE, "wrong_type"),
        ("decimal", False, PRICE, "wrong_type"),
        ("decimal", Decimal("0.000000001"), PRICE, "too_many_decimals"),
        ("decimal", 10**10, PRICE, "out_of_range"),
        ("decimal", Decimal("1e999999"), PRICE, "out_of_range"),
        ("decimal", Decimal("1e-999999"), PRICE, "too_many_decimals"),
        ("decimal_text", "1e99999999999999999999", PRICE, "out_of_range"),
        ("decimal_text", "NaN", PRICE, "not_a_number"),
        ("decimal_text", "1_0", PRICE, "not_a_number"),
        ("decimal_text", "\u0661", PRICE, "not_a_number"),
        ("decimal_text", 1, PRICE, "wrong_type"),
        ("enum", "x", {"values": {"b": "buy"}}, "bad_value"),
        ("bool_enum", "true", {"values": {}}, "wrong_type"),
        ("iso_time", "2025-11-24T16:00:00", {}, "bad_time"),
        ("iso_time", "2025-02-29T00:00:00Z", {}, "bad_time"),
        ("iso_time", "0000-01-01T00:00:00Z", {}, "bad_time"),
        ("iso_time", "2025-11-24T16:00:00+24:00", {}, "bad_time"),
        ("date_time_assumed_utc", "2025-11-24 16:00:00Z", {}, "bad_time"),
        ("rfc822_time", "Mon, 24 Nov 2025 09:30:00", {}, "bad_time"),
        ("rfc822_time", "soon", {}, "bad_time"),
        ("epoch_ms", -1, {}, "bad_time"),
        ("epoch_ns", Decimal("0.5"), {}, "bad_time"),
        ("epoch_s", "1", {}, "wrong_type"),
    ],
)
def test_kind_refuses_value_for_a_documented_reason(
    kind: str, value: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RecordRejected) as raised:
        KINDS[kind].parse(value, options)
    assert raised.value.reason == reason
    assert reason in REASONS
    assert raised.value.detail


def test_time_without_offset_name_is_no_surprise_to_rss() -> None:
    # "-0000" says that the zone is unknown: the standard library gives a naive time.
    with pytest.raises(RecordRejected):
        KINDS["rfc822_time"].parse("Mon, 24 Nov 2025 09:30:00 -0000", {})
