"""The ledger in Gold says what the ledger says; completeness finds what Silver lost or invented."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stream.feeds import load_feed, load_feeds
from stream.lake.entries import Entry, ObjectRef, Redriven, SliceRecord
from stream.lake.history import current_slices
from stream.ledger_tables import LEDGER_TABLES
from stream.slices import ShardRef

pytestmark = pytest.mark.slow  # dbt compiles the project: 10 s and more

DAY_NS = 86_400 * 10**9
DAY0_NS = int(datetime(2026, 11, 16, tzinfo=UTC).timestamp()) * 10**9
SOME_DAYS = ("2026-11-18", "2026-11-20")
CHECK = "silver_holds_what_the_ledger_says"
LEDGER = (
    "int_ledger_events",
    "int_ledger_commits",
    "int_ledger_rejects",
    "int_ledger_gaps",
    "int_ledger_slices",
)
MANY = settings(
    max_examples=40,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class History:
    """A random life of a few slices: its ledger entries, and the event times that Silver holds."""

    luck: random.Random
    entries: list[Entry] = field(default_factory=list)
    rows: dict[str, list[int]] = field(default_factory=dict)
    records: dict[str, SliceRecord] = field(default_factory=dict)

    def live(self, commits: int) -> None:
        for number in range(1, commits + 1):
            kind = self.luck.choice(
                ("slices", "slices", "replay", "redrive", "retention", "compact")
            )
            if not self.records and kind != "compact":
                kind = "slices"
            said = getattr(self, kind)(number)
            committed_ms = DAY0_NS // 10**6 + 7 * 86_400_000 + number * 60_000
            self.entries.append(Entry("trades", number, None, kind, committed_ms, {}, **said))

    def slices(self, number: int) -> dict[str, Any]:
        records = tuple(self._record(f"{number}{i}") for i in range(self.luck.randint(1, 3)))
        return {"slices": records}

    def replay(self, number: int) -> dict[str, Any]:
        ids = self.luck.sample(sorted(self.records), self.luck.randint(1, len(self.records)))
        return {"slices": tuple(self._record(self.records[i].first or "") for i in ids)}

    def redrive(self, number: int) -> dict[str, Any]:
        return {"redriven": tuple(self._redriven() for _ in range(self.luck.randint(1, 3)))}

    def retention(self, number: int) -> dict[str, Any]:
        limit = DAY0_NS + self.luck.randrange(8) * DAY_NS
        dropped = {}
        for slice_id, rows in self.rows.items():
            kept = [ns for ns in rows if ns >= limit]
            if len(kept) < len(rows):
                dropped[slice_id] = len(rows) - len(kept)
                self.rows[slice_id] = kept
        return {"dropped": dropped}

    def compact(self, number: int) -> dict[str, Any]:
        return {}

    def _record(self, first: str) -> SliceRecord:
        luck = self.luck
        stream = luck.choice(("headrace-trades.1", "extract-fmp.1"))
        start = DAY0_NS + luck.randrange(6 * 24) * 3_600 * 10**9
        times = [start + luck.randrange(luck.choice((1, 30)) * 3_600) * 10**9 for _ in range(4)]
        times = times[: luck.randint(0, 4)]
        rejected = {r: luck.randint(1, 3) for r in ("bad_json", "bad_value") if luck.random() < 0.4}
        duplicates, ignored = luck.randint(0, 2), luck.randint(0, 2)
        if first in {r.first for r in self.records.values()}:
            stream = next(r.shard.stream for r in self.records.values() if r.first == first)
        record = SliceRecord(
            ShardRef("trades", stream, "shard-0"),
            prev=None,
            first=first,
            last=first,
            rows=luck.randint(1, 9),
            payload_bytes=luck.randint(1, 10**6),
            arrival_ns=(DAY0_NS + int(first) * 10**9, DAY0_NS + int(first) * 10**9 + 10**8),
            bronze=ObjectRef("b", "", luck.randint(1, 100), 1),
            silver=(ObjectRef("s", "", 10, len(times)),) if times else (),
            messages=len(times) + duplicates + ignored + sum(rejected.values()),
            silver_rows=len(times),
            duplicates=duplicates,
            ignored={"heartbeat": ignored} if ignored else {},
            rejected=rejected,
            event_ns=(min(times), max(times)) if times else (0, 0),
        )
        self.records[record.slice_id] = record
        self.rows[record.slice_id] = times
        return record

    def _redriven(self) -> Redriven:
        slice_id = self.luck.choice(sorted(self.records))
        rows, duplicates = self.luck.randint(0, 2), self.luck.randint(0, 1)
        for _ in range(rows):
            self.rows[slice_id].append(DAY0_NS + self.luck.randrange(9 * 24) * 3_600 * 10**9)
        return Redriven("q", slice_id, rows + duplicates, rows, duplicates)


def put_ledger(tables: Any, entries: Sequence[Entry]) -> None:
    for name, (_, build) in LEDGER_TABLES.items():
        tables.put(f"lake.ledger.{name}", build(entries))


def put_silver(tables: Any, rows: dict[str, list[int]]) -> None:
    """Only what the check reads; every other feed's table is empty."""
    found = [
        {"slice_id": slice_id, "ts_event": datetime.fromtimestamp(ns // 10**9, UTC)}
        for slice_id, times in rows.items()
        for ns in times
    ]
    schema = pa.schema([("slice_id", pa.string()), ("ts_event", pa.timestamp("us"))])
    tables.put("lake.silver.trades", pa.Table.from_pylist(_naive(found), schema=schema))


def _naive(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"ts_event": row["ts_event"].replace(tzinfo=None)} for row in rows]


@pytest.fixture(scope="module")
def whole(compile_gold: Callable[..., Any]) -> Any:
    return compile_gold(None)


@pytest.fixture(scope="module")
def some_days(compile_gold: Callable[..., Any]) -> Any:
    return compile_gold(SOME_DAYS)


@MANY
@given(seed=st.integers(0, 2**32), commits=st.integers(1, 12))
def test_slices_are_as_history_says(whole: Any, gold_tables: Any, seed: int, commits: int) -> None:
    history = History(random.Random(seed))
    history.live(commits)
    put_ledger(gold_tables, history.entries)
    gold_tables.build(whole, *LEDGER)
    rows = gold_tables.rows(f"from {whole.relation['int_ledger_slices']}")
    found = {row["slice_id"]: row for row in rows}
    states = current_slices(history.entries)
    assert len(rows) == len(found)
    assert set(found) == set(states)
    for slice_id, state in states.items():
        row, record = found[slice_id], state.record
        redriven = sum(r.messages for r in state.redriven)
        assert (row["feed"], row["first_commit"], row["newest_commit"]) == (
            "trades",
            state.number,
            state.replayed or state.number,
        )
        assert row["silver_rows"] == state.silver_rows == len(history.rows[slice_id])
        assert (row["records"], row["messages"]) == (record.rows, record.messages)
        assert row["rejected"] == sum(record.rejected.values()) - redriven
        assert row["dropped_rows"] == state.dropped
        assert row["is_extract"] == record.shard.stream.startswith("extract-")
        assert row["objects"] == 1 + len(state.silver)


@MANY
@given(seed=st.integers(0, 2**32), commits=st.integers(1, 12))
def test_every_day_of_a_feed_accounts_for_its_messages(
    whole: Any, gold_tables: Any, seed: int, commits: int
) -> None:
    history = History(random.Random(seed))
    history.live(commits)
    put_ledger(gold_tables, history.entries)
    gold_tables.build(whole, *LEDGER, "fct_feed_day", "fct_rejects_day")
    days = gold_tables.rows(f"from {whole.relation['fct_feed_day']}")
    assert all(day["is_complete"] for day in days)
    states = current_slices(history.entries).values()
    assert sum(day["silver_rows"] for day in days) == sum(map(len, history.rows.values()))
    assert sum(day["records"] for day in days) == sum(s.record.rows for s in states)
    refused = gold_tables.rows(f"from {whole.relation['fct_rejects_day']}")
    assert sum(r["messages"] for r in refused) == sum(
        sum(s.record.rejected.values()) for s in states
    )


@MANY
@given(seed=st.integers(0, 2**32), commits=st.integers(1, 12), new=st.integers(0, 12))
def test_a_complete_silver_passes_and_one_row_less_or_more_is_named(
    whole: Any, some_days: Any, gold_tables: Any, seed: int, commits: int, new: int
) -> None:
    luck = random.Random(seed)
    history = History(luck)
    history.live(commits)
    put_ledger(gold_tables, history.entries)
    gold_tables.build(whole, *LEDGER)
    put_silver(gold_tables, history.rows)
    assert gold_tables.rows(whole.sql[CHECK]) == []
    assert gold_tables.rows(some_days.sql[CHECK]) == []
    # a later build: the ledger's source holds only the entries that are new
    put_ledger(gold_tables, history.entries[new:])
    assert gold_tables.rows(whole.sql[CHECK]) == []
    assert gold_tables.rows(some_days.sql[CHECK]) == []

    changed = {record.slice_id for e in history.entries[new:] for record in e.slices}
    candidates = [i for i in sorted(changed) if history.rows[i]]
    if not candidates:
        return
    slice_id = luck.choice(candidates)
    times = history.rows[slice_id]
    spoiled = luck.choice((times[:-1], [*times, times[-1]]))
    put_silver(gold_tables, history.rows | {slice_id: spoiled})
    (named,) = gold_tables.rows(whole.sql[CHECK])
    assert (named["feed"], named["slice_id"]) == ("trades", slice_id)
    assert (named["expected"], named["found"]) == (len(times), len(spoiled))
    state = current_slices(history.entries)[slice_id]
    low, high = DAY0_NS + 2 * DAY_NS, DAY0_NS + 5 * DAY_NS
    first, last = state.record.event_ns
    is_inside = state.record.silver_rows > 0 and low <= first and last < high
    named_by_days = {r["slice_id"] for r in gold_tables.rows(some_days.sql[CHECK])}
    if is_inside and not state.redriven:
        assert named_by_days == {slice_id}
    elif not is_inside:
        assert named_by_days == set()


def test_rows_of_a_slice_that_the_ledger_does_not_know_are_named(
    whole: Any, gold_tables: Any
) -> None:
    gold_tables.build(whole, *LEDGER)
    put_silver(gold_tables, {"headrace-trades.1/shard-0/7": [DAY0_NS, DAY0_NS]})
    (named,) = gold_tables.rows(whole.sql[CHECK])
    assert (named["slice_id"], named["expected"], named["found"]) == (
        "headrace-trades.1/shard-0/7",
        0,
        2,
    )


def test_shares_of_nulls_are_counted_for_every_column_that_may_be_null(
    whole: Any, gold_tables: Any
) -> None:
    schema = load_feed("news").silver_schema
    at = datetime(2026, 11, 18, 12, tzinfo=UTC).replace(tzinfo=None)
    rows = [dict.fromkeys(schema.names) | {"ts_event": at, "url": url} for url in ("u", None, "w")]
    loose = pa.schema([field.with_nullable(True) for field in schema])
    gold_tables.put("lake.silver.news", pa.Table.from_pylist(rows, schema=loose))
    gold_tables.build(whole, "int_null_shares_day")
    rows = gold_tables.rows(f"from {whole.relation['int_null_shares_day']}")
    counted = {(r["feed"], r["column_name"]): (r["row_count"], r["null_count"]) for r in rows}
    assert counted == {
        ("news", "url"): (3, 1),
        ("news", "publisher"): (3, 3),
        ("news", "language"): (3, 3),
    }
    nullable = {
        (feed, column.name)
        for feed, contract in load_feeds().items()
        for column in contract.columns
        if column.nullable
    }
    assert all(f"'{name}'" in whole.sql["int_null_shares_day"] for _, name in nullable)


@pytest.mark.slow
def test_builds_commit_by_commit_and_repeated_equal_one_build(
    tmp_path: Path, run_dbt: Callable[..., Any]
) -> None:
    """With real dbt: the pre-hook forgets what a build that is repeated appends again."""
    history = History(random.Random(3))
    history.live(10)

    def build(entries: Sequence[Entry], folder: Path) -> dict[str, list[str]]:
        folder.mkdir(exist_ok=True)
        with duckdb.connect(str(folder / "lake.duckdb")) as lake:
            lake.execute("create schema if not exists ledger")
            lake.execute("create schema if not exists silver")
            for feed in load_feeds():
                lake.execute(
                    f"create table if not exists silver.{feed} (slice_id text, ts_event timestamp)"
                )
            for name, (_, table_of) in LEDGER_TABLES.items():
                lake.register("new_rows", table_of(entries))
                lake.execute(f"create or replace table ledger.{name} as from new_rows")
                lake.unregister("new_rows")
        done = run_dbt(folder, "build", "--select", *LEDGER, "--vars", json.dumps({"days": []}))
        assert done.returncode == 0, done.stdout
        with duckdb.connect(str(folder / "gold.duckdb"), read_only=True) as gold:
            return {
                model: sorted(map(str, gold.execute(f"from gold_intermediate.{model}").fetchall()))
                for model in LEDGER
            }

    at_once = build(history.entries, tmp_path / "at_once")
    steps = tmp_path / "steps"
    build(history.entries[:6], steps)
    assert build(history.entries[4:], steps) == at_once  # 5 and 6 are said again
    assert build(history.entries[4:], steps) == at_once
    assert build([], steps) == at_once
