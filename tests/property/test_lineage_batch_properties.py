"""Whatever is delivered, however often, in whatever grouping and wherever it dies: each object
version ends with one row and a run that covers it, and no run is started for what has one.

DynamoDB is a dictionary that knows the two conditions that rows are put with (the same code on
moto: tests/lineage), Prefect one that keeps one run per key.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from batch.aws.lineage_batch import Message, RunRequest, take_batch
from batch.aws.lineage_event import BronzeHour
from batch.aws.lineage_table import LineageTable
from stream.errors import StoreUnavailableError
from stream.lake.layout import BronzeKey
from stream.slices import ShardRef

HOUR_NS = 3_600_000_000_000
START_HOUR = 498_732
POISON = -1


class Crash(BaseException):
    """The process is gone: nothing after this line happens."""


class Budget:
    """How many calls still happen before the process dies, or the far side stops answering."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.is_crash = True

    def spend(self) -> None:
        if self.left is None:
            return
        if self.left == 0:
            raise Crash if self.is_crash else StoreUnavailableError("away")
        self.left -= 1


class Dynamo:
    """`put_item` with its condition, before or after which the process may die."""

    def __init__(self, budget: Budget) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self._budget = budget

    def put_item(self, **request: Any) -> None:
        self._budget.spend()
        item, unless = request["Item"], request["ExpressionAttributeNames"]["#unless"]
        identity = item["object"]["S"], item["etag"]["S"]
        if unless in self.items.get(identity, {}):
            code = "ConditionalCheckFailedException"
            found = {"Error": {"Code": code}, "Item": self.items[identity]}
            raise ClientError(found, "PutItem")
        self.items[identity] = item


class Prefect:
    """Runs by key; a call may be lost on its way, or its answer may."""

    def __init__(self, budget: Budget) -> None:
        self.runs: dict[str, RunRequest] = {}
        self._budget = budget

    def find(self, keys: Collection[str]) -> dict[str, str]:
        self._budget.spend()
        return {key: key for key in keys if key in self.runs}

    def start(self, request: RunRequest) -> str:
        self._budget.spend()
        known = self.runs.setdefault(request.key, request)
        assert known == request, "one key, one set of parameters"
        self._budget.spend()
        return request.key


def body_of(number: int) -> str:
    """The announcement of object version `number`; six of them share three hours."""
    if number == POISON:
        return "poison"
    shard = ShardRef("trades", "s.00000000", "shard-0")
    key = BronzeKey.of(shard, str(number), (START_HOUR + number % 3) * HOUR_NS).path
    return json.dumps(
        {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": "2026-11-23T12:00:00Z",
            "detail": {
                "bucket": {"name": "bronze"},
                "object": {"key": key, "size": 1, "etag": f"e{number}"},
            },
        }
    )


STEPS = st.lists(
    st.tuples(
        # What is delivered: the same as before, or some of six versions and poison.
        st.one_of(st.none(), st.lists(st.integers(POISON, 5), min_size=1, max_size=6)),
        st.one_of(st.none(), st.integers(0, 14)),  # after so many calls it ends
        st.booleans(),  # by a crash, or by an error that it sees
    ),
    max_size=8,
)


@given(STEPS)
def test_every_version_has_a_row_and_a_run_and_no_run_is_started_twice_for_what_has_one(steps):
    budget = Budget()
    dynamo, prefect = Dynamo(budget), Prefect(budget)
    table = LineageTable("t", dynamo)
    covered: set[int] = set()
    seen: set[int] = set()

    def deliver(numbers: list[int]) -> set[str] | None:
        """What comes back; None if the process died. Checks what a started run may be for."""
        before = set(prefect.runs)
        messages = [Message(f"m{at}", body_of(number)) for at, number in enumerate(numbers)]
        versions = set(numbers) - {POISON}
        try:
            failed = set(take_batch(messages, table, prefect).failed)
        except Crash:
            failed = None
        if set(prefect.runs) != before:
            assert versions - covered, "a run for nothing that has none"
            covered.update(versions)
        seen.update(versions)
        return failed

    waiting: set[int] = set()
    numbers = [0, 1]
    for given_numbers, calls, is_crash in steps:
        numbers = given_numbers or numbers
        budget.left, budget.is_crash = calls, is_crash
        failed = deliver(numbers)
        budget.left = None
        done = set() if failed is None else {
            number for at, number in enumerate(numbers) if f"m{at}" not in failed
        }  # fmt: skip
        assert POISON not in done, "poison never counts as done"
        assert done <= covered, "a message went although no run covers its version"
        assert failed is None or all(
            f"m{at}" in failed for at, number in enumerate(numbers) if number == POISON
        )
        waiting = (waiting | set(numbers)) - done - {POISON}

    if waiting:  # the queue gives back what was not done, until it is
        assert deliver(sorted(waiting)) == set()
    assert covered == seen
    assert len(dynamo.items) == len(seen)
    for number in seen:
        hour = json.loads(body_of(number))["detail"]["object"]["key"]
        (row,) = [item for item in dynamo.items.values() if item["object"]["S"].endswith(hour)]
        run = prefect.runs[row["run"]["S"]]
        place = {"source": row["source"]["S"], "hour": row["hour"]["S"]}
        assert BronzeHour.parse(place) in run.hours, "the run that is noted covers the row's hour"

    before = set(prefect.runs)
    for number in seen:
        assert deliver([number, number]) == set()
    assert set(prefect.runs) == before
