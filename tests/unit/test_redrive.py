"""After a decoder fix, quarantined messages land once; the proof stays equal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pytest

import stream.redrive
from stream.decode import Decoded, decode_records
from stream.errors import ConfigError, FatalError
from stream.prove import prove_lake
from stream.query import run_query
from stream.redrive import redrive, redrive_feed
from stream.slices import RECORD_SCHEMA


def ask(lake: Any, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in run_query(lake.settings, sql).to_pylist()]


def sum_decoded(parts: list[Decoded]) -> Decoded:
    """Several batches' results as one."""
    return Decoded(
        pa.concat_tables([part.rows for part in parts]),
        pa.concat_tables([part.rejects for part in parts]),
        {name: n for part in parts for name, n in part.ignored.items()},
        sum(part.messages for part in parts),
    )


def fixed_decoder(contract: Any, records: pa.RecordBatch) -> Decoded:
    """Today's decoder: it knows venue "fixed" and that "noise" is no data."""
    payloads = [
        payload.replace(b'"venue":"new"', b'"venue":"sim"').replace(
            b'"noise"', b'{"type":"heartbeat","product_id":"A"}'
        )
        for payload in records["payload"].to_pylist()
    ]
    columns = [pa.array(payloads, pa.binary()), *records.columns[1:]]
    return decode_records(contract, pa.record_batch(columns, schema=RECORD_SCHEMA))


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream.redrive, "decode_records", fixed_decoder)


def renamed(message: bytes) -> bytes:
    """A trade of a venue that only the fixed decoder knows."""
    return orjson.dumps({**orjson.loads(message), "venue": "new"})


@pytest.fixture
def quarantined(small_lake: Any, trade: Callable[..., bytes]) -> Any:
    """Two slices with rejects that the fixed decoder accepts, ignores and still refuses.

    Message 1 is in Silver already; 21 comes twice.
    """
    at = small_lake.arrival_ns

    def new(number: int) -> bytes:
        return renamed(trade(number, at_ns=at))

    small_lake.land(
        small_lake.slice(
            [trade(1, at_ns=at), b"\n".join([new(11), trade(2, at_ns=at), new(12)]), b"{broken"]
        )
    )
    small_lake.land(small_lake.slice([new(21), new(21), new(1), b'"noise"', trade(3, at_ns=at)]))
    return small_lake


def current(lake: Any) -> list[tuple[Any, ...]]:
    return ask(lake, "select trade_id from trades order by trade_id::int")


def run(lake: Any, **options: Any) -> Any:
    return redrive(lake.lake, lake.contract, dry_run=False, **options)


def test_dry_run_says_what_would_land_and_writes_nothing(quarantined: Any, fixed: None) -> None:
    before = [info.path for info in quarantined.lake.store.list("silver/")]
    report = redrive(quarantined.lake, quarantined.contract)
    assert (report.silver_rows, report.duplicates, report.ignored, report.slices) == (3, 2, 1, 2)
    assert sum(report.accepted.values()) == 6
    assert sum(report.still_rejected.values()) == 1
    assert (report.messages, report.commit, report.is_applied) == (7, None, False)
    assert [info.path for info in quarantined.lake.store.list("silver/")] == before


def test_redrive_lands_accepted_messages_with_their_lineage(quarantined: Any, fixed: None) -> None:
    report = run(quarantined)
    assert report.commit == quarantined.ledger.head().number
    assert current(quarantined) == [("1",), ("2",), ("3",), ("11",), ("12",), ("21",)]
    rows = ask(
        quarantined,
        "select trade_id, slice_id, sequence_number, line_no, is_late from trades "
        "where trade_id in ('11', '12', '21') order by trade_id",
    )
    first, second = (result.record.slice_id for result in quarantined.results)
    assert rows == [
        ("11", first, "1001", 0, True),
        ("12", first, "1001", 2, True),
        ("21", second, "1003", 0, True),
    ]


def test_redrive_leaves_what_is_still_refused_in_quarantine(quarantined: Any, fixed: None) -> None:
    assert ask(quarantined, "select count(*) from quarantine") == [(7,)]
    run(quarantined)
    assert ask(quarantined, "select raw from quarantine") == [(b"{broken",)]


def test_second_redrive_lands_nothing(quarantined: Any, fixed: None) -> None:
    run(quarantined)
    number = quarantined.ledger.head().number
    report = run(quarantined)
    assert (report.silver_rows, report.commit, report.messages) == (0, None, 1)
    assert quarantined.ledger.head().number == number


def test_proof_stays_equal_after_a_redrive(quarantined: Any, fixed: None) -> None:
    run(quarantined)
    proof = prove_lake(quarantined.lake, quarantined.contract, threads=2)
    assert proof.differences == []
    assert (proof.totals.redriven, proof.totals.silver_rows) == (6, 6)


def test_bars_include_redriven_trades(quarantined: Any, fixed: None) -> None:
    run(quarantined)
    assert ask(quarantined, "select sum(trades) from bars_1m_current") == [(6,)]
    quarantined.land_trades(4)
    assert ask(quarantined, "select sum(trades) from bars_1m_current") == [(10,)]


def test_redrive_of_one_reason_leaves_the_others(quarantined: Any, fixed: None) -> None:
    reasons = {reason for (reason,) in ask(quarantined, "select distinct reason from quarantine")}
    [broken] = {
        reason
        for reason, raw in ask(quarantined, "select reason, raw from quarantine")
        if raw == b"{broken"
    }
    assert run(quarantined, reasons=[broken]).silver_rows == 0
    run(quarantined, reasons=reasons - {broken})
    assert ask(quarantined, "select count(*) from quarantine") == [(1,)]


def test_message_with_one_refused_row_stays_whole(
    quarantined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder of today refuses the same messages: nothing lands."""
    report = run(quarantined)
    assert (report.silver_rows, report.commit) == (0, None)
    assert ask(quarantined, "select count(*) from quarantine") == [(7,)]


def test_crash_between_files_and_commit_is_harmless(
    quarantined: Any, fixed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("stream.lake.catalog.LakeTable.append", die)
        with pytest.raises(Killed):
            run(quarantined)
    assert current(quarantined) == [("1",), ("2",), ("3",)]
    run(quarantined)
    assert len(current(quarantined)) == 6
    assert prove_lake(quarantined.lake, quarantined.contract, threads=2).is_equal


def test_crash_before_the_bars_is_caught_up_by_the_next_redrive(
    quarantined: Any, fixed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("stream.bar_keeper.BarKeeper.catch_up", lambda _: None)
        run(quarantined)
    assert ask(quarantined, "select sum(trades) from bars_1m_current") == [(3,)]
    run(quarantined)
    assert ask(quarantined, "select sum(trades) from bars_1m_current") == [(6,)]


def test_two_redrives_at_once_land_each_message_once(quarantined: Any, fixed: None) -> None:
    barrier = threading.Barrier(2)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            barrier.wait()
            run(quarantined)
        except Exception as error:  # noqa: BLE001 - shown by the assert below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(current(quarantined)) == 6
    proof = prove_lake(quarantined.lake, quarantined.contract, threads=2)
    assert proof.differences == []
    assert proof.totals.redriven == 6


def test_redrive_that_loses_a_race_against_the_dataflow_lands_after_it(
    quarantined: Any, fixed: None, monkeypatch: pytest.MonkeyPatch, trade: Any
) -> None:
    """Between plan and commit the same fact arrives through the stream: it must not double."""
    real = stream.redrive._write
    calls = []

    def slow_write(*arguments: Any) -> Any:
        written = real(*arguments)
        if not calls:
            quarantined.land(quarantined.slice([trade(11, at_ns=quarantined.clock.now_ns())]))
        calls.append(1)
        return written

    monkeypatch.setattr(stream.redrive, "_write", slow_write)
    report = run(quarantined)
    assert len(calls) == 2
    assert report.silver_rows == 3
    assert prove_lake(quarantined.lake, quarantined.contract, threads=2).is_equal


def test_missing_quarantine_object_stops_the_redrive(quarantined: Any, fixed: None) -> None:
    path = quarantined.results[0].record.quarantine.path
    quarantined.path(path).unlink()
    with pytest.raises(FatalError, match=path):
        run(quarantined)


def test_redrive_by_settings_is_a_dry_run_by_default(quarantined: Any, fixed: None) -> None:
    assert redrive_feed(quarantined.settings, "trades").is_applied is False
    assert len(current(quarantined)) == 3
    with pytest.raises(ConfigError, match="no feed"):
        redrive_feed(quarantined.settings, "nothing")
