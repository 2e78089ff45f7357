"""Bad input through the whole road: each message named in quarantine, nothing stops or is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from stream import live
from stream.clock import SYSTEM_CLOCK
from stream.engine import Stop
from stream.errors import QuarantineLimitError
from stream.feeds import load_feed
from stream.feeds.contract import RejectLimit
from stream.flow import Tally
from stream.lake.connect import connect_lake
from stream.live import run_feed
from stream.prove import prove
from stream.query import run_query
from stream.redrive import redrive_feed
from stream.settings import Settings
from stream.sources.memory import MemoryReader, MemoryStream

HOUR_NS = 3_600_000_000_000


def trade(trade_id: int, **changes: object) -> bytes:
    message = {
        "venue": "sim", "symbol": "ACME", "trade_id": str(trade_id), "kind": "new",
        "ts_event_ns": SYSTEM_CLOCK.now_ns(), "price": 101.25, "size": 10, "side": "buy",
    }  # fmt: skip
    return orjson.dumps({**message, **changes})


def number(text: bytes) -> bytes:
    return trade(900).replace(b"101.25", text)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty payload": (lambda: b"", "empty_payload"),
    "blank lines": (lambda: b" \r\n\n", "empty_payload"),
    "invalid UTF-8": (lambda: trade(900).replace(b"ACME", b"AC\xff"), "invalid_utf8"),
    "1 MB record": (lambda: trade(900, pad="x" * 1_000_000), "line_too_long"),
    "cut off": (lambda: trade(900)[:-1], "malformed_json"),
    "NaN": (lambda: number(b"NaN"), "not_a_number"),
    "Infinity": (lambda: number(b"Infinity"), "not_a_number"),
    "-Infinity": (lambda: number(b"-Infinity"), "not_a_number"),
    "number as a string": (lambda: number(b'"101.25"'), "wrong_type"),
    "negative price": (lambda: number(b"-101.25"), "non_positive_price"),
    "unknown venue": (lambda: trade(900, venue="nowhere"), "unknown_venue"),
    "far future": (
        lambda: trade(900, ts_event_ns=SYSTEM_CLOCK.now_ns() + HOUR_NS),
        "event_time_in_future",
    ),
    "deep nesting": (lambda: b"[" * 5_000 + b"]" * 5_000, "nesting_too_deep"),
    "duplicate key": (
        lambda: trade(900).replace(b'"size"', b'"price":1,"size"'),
        "duplicate_key",
    ),
    "no trade at all": (lambda: b'{"hello": "world"}', "unknown_shape"),
}


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(
        home=home, lake=f"file://{home}/lake", window_ms=100, grace_ms=0, poll_ms=20,
        epoch_seconds=0.2, list_shards_seconds=0.2, lanes=4,
    )  # fmt: skip


@pytest.fixture
def stream() -> MemoryStream:
    return MemoryStream("ticks", shards=1)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[RejectLimit], None]:
    """Give the feed another reject limit, as an edit of its contract does."""

    def change(limit: RejectLimit) -> None:
        contract = replace(load_feed("trades"), rejects=limit)
        monkeypatch.setattr(live, "load_feed", lambda _: contract)

    return change


def run_until(settings: Settings, stream: MemoryStream, records: int) -> Tally:
    """The live dataflow, until it has committed that many records."""
    stop = Stop()

    def on_commit(tally: Tally) -> None:
        if tally.records >= records:
            stop.request()

    return run_feed(settings, "trades", stop=stop, reader=MemoryReader(stream), on_commit=on_commit)


def ids(settings: Settings) -> list[int]:
    rows = run_query(settings, "SELECT trade_id FROM trades ORDER BY trade_id::INT")
    return [int(text) for text in rows["trade_id"].to_pylist()]


def test_each_kind_of_bad_message_is_quarantined_and_every_good_one_lands(settings, stream):
    sent = []
    for at, (build, reason) in enumerate(BAD.values()):
        stream.put(trade(2 * at), "k")
        sent.append((build(), reason))
        stream.put(sent[-1][0], "k")
        stream.put(trade(2 * at + 1), "k")

    tally = run_until(settings, stream, 3 * len(BAD))

    assert ids(settings) == list(range(2 * len(BAD)))
    kept = run_query(settings, "SELECT raw, reason FROM quarantine ORDER BY ts_arrival_ns")
    found = [(row["raw"], row["reason"]) for row in kept.to_pylist()]
    assert sorted(found) == sorted(sent)
    assert sum(tally.rejected.values()) == len(BAD)
    proof = prove(settings, "trades", deep=True)
    assert proof.is_equal, str(proof)
    assert (proof.totals.quarantined, proof.totals.silver_rows) == (len(BAD), 2 * len(BAD))


def test_bad_line_costs_its_record_only_itself(settings, stream):
    bad = [build() for build, reason in BAD.values() if reason != "empty_payload"]
    lines = [line for at, line in enumerate(bad) for line in (trade(at), line)]
    stream.put(b"\n".join(lines), "k")

    run_until(settings, stream, 1)

    assert ids(settings) == list(range(len(bad)))
    kept = run_query(settings, "SELECT raw, line_no FROM quarantine ORDER BY line_no")
    assert kept["raw"].to_pylist() == bad
    assert kept["line_no"].to_pylist() == list(range(1, 2 * len(bad), 2))
    assert prove(settings, "trades").is_equal


def test_redrive_of_messages_that_are_still_bad_lands_none(settings, stream):
    for build, _ in BAD.values():
        stream.put(build(), "k")
    stream.put(trade(1), "k")
    run_until(settings, stream, len(BAD) + 1)

    for apply in (False, True):
        report = redrive_feed(settings, "trades", apply=apply)
        assert (report.accepted, report.silver_rows) == ({}, 0)
        assert sum(report.still_rejected.values()) == report.messages == len(BAD)
    assert ids(settings) == [1]


@pytest.mark.parametrize(
    ("strict", "named"),
    [
        (RejectLimit(share=0.2, over_rows=20, run=1_000), r"\d+ of the last \d+ messages .*20%"),
        (RejectLimit(share=1.0, over_rows=1_000, run=20), r"\d+ messages in a row .*20 in a row"),
    ],
    ids=["share", "run"],
)
def test_reject_limit_stops_the_shard_and_a_raised_one_goes_on_from_there(
    settings, stream, limit, strict, named
):
    limit(strict)
    for n in range(10):
        stream.put(trade(n), "k")
    run_until(settings, stream, 10)
    position = positions(settings, stream)
    for _ in range(30):
        stream.put(b"nope", "k")
    stream.put(trade(10), "k")

    for _ in range(2):  # a restart alone changes nothing
        with pytest.raises(QuarantineLimitError, match=named) as error:
            run_until(settings, stream, 41)
        assert "shardId-000000000000" in str(error.value)
        assert "malformed_json" in str(error.value)
        assert positions(settings, stream) == position

    limit(RejectLimit(share=1.0, over_rows=1_000, run=1_000))
    tally = run_until(settings, stream, 31)
    assert (tally.records, tally.rejected) == (31, {"malformed_json": 30})
    assert ids(settings) == list(range(11))
    proof = prove(settings, "trades", deep=True)
    assert proof.is_equal, str(proof)


def positions(settings: Settings, stream: MemoryStream) -> dict[str, str | None]:
    """What is committed, per shard."""
    _, ledger = connect_lake(settings).ledger("trades")
    held = ledger.positions(str(MemoryReader(stream).identity))
    return {shard: position.sequence_number for shard, position in held.items()}
