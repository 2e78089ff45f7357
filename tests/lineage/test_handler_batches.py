"""Deliveries on a real table (moto): rows once, poison alone, and what comes back when."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from typing import Any

import boto3
import pytest

from batch.aws import lineage
from batch.aws.lineage_batch import Message, Outcome, take_batch
from batch.aws.lineage_event import GRACE_MINUTES
from batch.aws.lineage_table import KEEP_DAYS, LineageTable
from stream.errors import ConfigError

pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def runs(lineage_kit):
    return lineage_kit.MemoryRuns()


@pytest.fixture
def take(lineage_kit, runs):
    """Take a delivery: events, or texts of messages."""
    table = LineageTable(lineage_kit.TABLE)

    def deliver(*bodies: Any) -> Outcome:
        records = lineage_kit.delivery(*bodies)["Records"]
        messages = [Message(record["messageId"], record["body"]) for record in records]
        return take_batch(messages, table, runs, {lineage_kit.BUCKET})

    return deliver


@pytest.fixture
def event(lineage_kit):
    """The announcement of slice `number`."""

    def make(number: int, **changes: Any) -> dict[str, Any]:
        return lineage_kit.created(lineage_kit.slice_key(number), **changes)

    return make


def test_row_says_what_key_and_event_say_and_which_run_covers_it(take, event, runs, lineage_kit):
    outcome = take(event(7))
    (row,) = lineage_kit.read_rows()
    assert row == {
        "object": f"{lineage_kit.BUCKET}/{lineage_kit.slice_key(7)}",
        "etag": "b1946ac92492d2347c6235b4d2611184",
        "kind": "slice",
        "source": "trades",
        "hour": "2026-11-23T12:00:00+00:00",
        "stream": "headrace-trades.0a1b2c3d",
        "shard": "shardId-000000000000",
        "first": "7".zfill(56),
        "bytes": "5000",
        "event_time": "2026-11-23T12:00:00+00:00",
        "event_ms": str(lineage_kit.NOON_MS),
        "sequencer": "00617F08299329D189",
        "version_id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
        "expires_at": str(lineage_kit.NOON_MS // 1000 + KEEP_DAYS * 86_400),
        "batch": next(iter(runs.started)),
        "run": outcome.run,
    }
    assert (outcome.failed, outcome.rows, outcome.known) == ({}, 1, 0)


def test_run_of_a_batch_covers_its_hours_once_each_and_waits_for_the_grace(
    take, event, runs, lineage_kit
):
    later = lineage_kit.created(
        lineage_kit.slice_key(9, "news", lineage_kit.NOON_MS + lineage_kit.HOUR_MS),
        time="2026-11-23T13:00:05Z",
    )
    take(event(1), event(2), later)
    (request,) = runs.started.values()
    assert [hour.to_parameter() for hour in request.hours] == [
        {"source": "news", "hour": "2026-11-23T13:00:00+00:00"},
        {"source": "trades", "hour": "2026-11-23T12:00:00+00:00"},
    ]
    newest = lineage_kit.NOON_MS + lineage_kit.HOUR_MS + 5_000
    assert request.after_ms - newest == (GRACE_MINUTES + 1) * 60_000


def test_same_version_twice_in_a_delivery_is_one_row_and_both_messages_go(take, event, runs):
    outcome = take(event(1), event(1), event(1, detail__object__sequencer="FF"))
    assert (outcome.rows, outcome.repeated, outcome.failed) == (1, 2, {})
    assert len(runs.started) == 1


def test_delivery_that_comes_again_changes_no_row_and_starts_nothing(
    take, event, runs, lineage_kit
):
    take(event(1), event(2))
    before = lineage_kit.read_rows()
    for again in ((event(1), event(2)), (event(2),), (event(2), event(1), event(1))):
        outcome = take(*again)
        assert (outcome.failed, outcome.rows, outcome.run) == ({}, 0, None)
    assert lineage_kit.read_rows() == before
    assert runs.calls == ["start"]


def test_new_version_beside_a_known_one_starts_a_run_over_both(take, event, runs, lineage_kit):
    take(event(1))
    first = lineage_kit.read_rows()
    outcome = take(event(1), event(2))
    assert (outcome.rows, outcome.known) == (1, 1)
    assert len(runs.started) == 2
    assert first[0] in lineage_kit.read_rows(), "a row that has its run keeps it"


def test_second_version_of_an_object_is_a_row_of_its_own_and_named(take, event, lineage_kit):
    outcome = take(
        event(1, detail__object__sequencer="0A"),
        event(1, detail__object__sequencer="0B", detail__object__etag="ff"),
    )
    assert outcome.rewritten == [
        f"{lineage_kit.BUCKET}/{lineage_kit.slice_key(1)} (newest etag ff)"
    ]
    assert len(lineage_kit.read_rows()) == 2


def test_poison_fails_alone_and_what_is_ignored_goes(take, event, lineage_kit):
    outcome = take(
        event(1),
        "not json",
        lineage_kit.created("gold/x"),
        event(2, detail__object__etag=lineage_kit.MISSING),
        {"Event": "s3:TestEvent"},
    )
    assert set(outcome.failed) == {"m1", "m3"}
    assert outcome.poison == Counter({"not json": 1, "etag": 1})
    assert outcome.ignored == Counter({"other zone": 1, "test event": 1})
    assert len(lineage_kit.read_rows()) == 1


def test_while_prefect_is_away_all_that_no_run_covers_comes_back_and_nothing_else(
    take, event, runs, lineage_kit
):
    take(event(1))
    runs.is_away = True
    outcome = take(event(1), event(2), "poison", lineage_kit.created("gold/x"))
    assert set(outcome.failed) == {"m1", "m2"}
    assert outcome.trouble == "Prefect does not answer"
    assert len(lineage_kit.read_rows()) == 2, "the row is there already"

    runs.is_away = False
    outcome = take(event(2))
    assert (outcome.failed, outcome.known) == ({}, 1)
    assert all("run" in row for row in lineage_kit.read_rows())


def test_run_that_was_started_before_its_delivery_died_is_found_in_any_grouping(
    take, event, runs, lineage_kit, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(LineageTable, "amend", _die)
        with pytest.raises(KeyboardInterrupt):
            take(event(1), event(2), event(3))
    (key,) = runs.started
    assert not any("run" in row for row in lineage_kit.read_rows())

    assert take(event(3)).run is None
    assert take(event(1), event(2)).run is None
    assert list(runs.started) == [key]
    assert {row["run"] for row in lineage_kit.read_rows()} == {f"run-{key[:8]}"}


def test_delivery_that_died_before_its_run_is_covered_by_the_ones_that_follow(
    take, event, runs, lineage_kit, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(runs, "start", _die)
        with pytest.raises(KeyboardInterrupt):
            take(event(1), event(2))
    take(event(2), event(3))
    take(event(1))
    assert len(runs.started) == 2
    assert all("run" in row for row in lineage_kit.read_rows())


def test_two_deliveries_of_one_version_at_the_same_time_start_two_runs_and_leave_none_uncovered(
    take, event, runs, lineage_kit, monkeypatch
):
    start, others = runs.start, iter([(event(1), event(3))])

    def start_while_another_delivery_is_taken(request: Any) -> str:
        for bodies in others:
            assert take(*bodies).failed == {}
        return start(request)

    monkeypatch.setattr(runs, "start", start_while_another_delivery_is_taken)
    assert take(event(1), event(2)).failed == {}
    assert len(runs.started) == 2
    rows = lineage_kit.read_rows()
    assert len(rows) == 3
    for row in rows:
        (request,) = [r for key, r in runs.started.items() if row["run"] == f"run-{key[:8]}"]
        assert row["hour"] in {hour.to_parameter()["hour"] for hour in request.hours}


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


def test_table_that_does_not_exist_sends_everything_back_and_says_so(event, runs, lineage_kit):
    messages = [Message("m0", json.dumps(event(1)))]
    outcome = take_batch(messages, LineageTable("elsewhere"), runs)
    assert (set(outcome.failed), runs.calls) == ({"m0"}, [])
    assert "table elsewhere: the table does not exist" in outcome.trouble


def test_queue_loses_nothing_repeats_nothing_and_sets_poison_aside(runs, lineage_kit, event):
    """A queue of moto, polled as Lambda does it; Prefect is away for the first two deliveries."""
    queue, table = lineage_kit.Queue(), LineageTable(lineage_kit.TABLE)
    ends = iter([True, True])

    def handle(delivery: Any, _context: object) -> Any:
        runs.is_away = next(ends, False)
        outcome = take_batch(lineage.read_messages(delivery), table, runs)
        return {"batchItemFailures": [{"itemIdentifier": i} for i in outcome.failed]}

    numbers = [1, 2, 3, 3, 2, 4, 5, 6, 7, 8, 9, 1]
    queue.send(*(event(number) for number in numbers), "poison", lineage_kit.created("gold/x"))
    queue.drain(handle)

    assert queue.set_aside() == ["poison"]
    rows = lineage_kit.read_rows()
    assert [int(row["first"]) for row in rows] == list(range(1, 10))
    assert {row["run"] for row in rows} <= {f"run-{key[:8]}" for key in runs.started}


@pytest.mark.parametrize(
    "delivery",
    [None, [], {}, {"Records": None}, {"Records": ["x"]}, {"Records": [{"messageId": "1"}]},
     {"Records": [{"messageId": "", "body": "x"}]}, {"Records": [{"messageId": 1, "body": "x"}]},
     {"Records": [{"messageId": "1", "body": {}}]}],
)  # fmt: skip
def test_event_that_is_no_delivery_of_sqs_raises(delivery):
    with pytest.raises(ConfigError, match="is the function mapped to the queue"):
        lineage.handle(delivery, None)


def test_delivery_without_messages_has_no_failures():
    assert lineage.handle({"Records": []}, None) == {"batchItemFailures": []}


def test_environment_without_its_variables_names_all_of_them(monkeypatch):
    monkeypatch.delenv("LINEAGE_TABLE")
    monkeypatch.setenv("PREFECT_API_URL", "")
    with pytest.raises(ConfigError, match="LINEAGE_TABLE, PREFECT_API_URL"):
        lineage.handle({"Records": []}, None)


def test_handler_tells_in_one_line_and_names_what_comes_back(lineage_kit, event, caplog):
    """No server listens at PREFECT_API_URL here."""
    delivery = lineage_kit.delivery(event(1), "poison", lineage_kit.created("gold/x"))
    with caplog.at_level(logging.INFO):
        answer = lineage.handle(delivery, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}, {"itemIdentifier": "m1"}]}
    (first, *_) = [r for r in caplog.records if r.name == "batch.aws.lineage"]
    told = json.loads(first.getMessage())["lineage"]
    assert told == {
        "messages": 3, "rows": 1, "known": 0, "repeated": 0, "ignored": {"other zone": 1},
        "poison": {"not json": 1}, "failed": 2, "run": None,
    }  # fmt: skip
    assert "comes back" in caplog.text
    assert "Prefect at 127.0.0.1" in caplog.text


@pytest.mark.parametrize("text", ["no colon", "user:pass\r\nX-Header: 1", ""])
def test_secret_of_another_form_is_refused_and_not_shown(text, lineage_kit):
    client = boto3.client("secretsmanager")
    client.create_secret(Name=lineage_kit.SECRET, SecretString=text or " ")
    with pytest.raises(ConfigError, match="expected one line of the form user:password") as caught:
        lineage.read_auth(lineage_kit.SECRET)
    assert not text or text not in str(caught.value)


def test_secret_that_is_missing_is_named():
    with pytest.raises(ConfigError, match="secret nowhere cannot be read: ResourceNotFound"):
        lineage.read_auth("nowhere")


def test_import_of_the_handler_brings_no_library_of_the_lake():
    code = (
        "import sys, batch.aws.lineage\n"
        "heavy = {'pyarrow', 'numpy', 'pydantic', 'prefect', 'orjson', 'httpx', 'obstore',"
        " 'pyiceberg', 'prometheus_client', 'bytewax', 'duckdb'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
