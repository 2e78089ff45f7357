"""Combinations that a replay must survive: days, reshards, aggregation, extracts, zombies, races.

Each test mixes jobs that work alone (`test_replay_recorded`, `test_replay_extract`, `maintain`).
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from batch.extracts import ExtractRequest, Part
from batch.extracts.landing import land_extract
from batch.maintain.compact import compact_table
from batch.replay.from_extract import replay_extracts
from batch.replay.recorded import replay_recorded
from batch.replay.reprocess import BronzeSource
from batch.replay.stores import ReplayStore
from stream.bar_keeper import open_bars
from stream.dedup import Dedup
from stream.dedup_range import RangeDedup
from stream.errors import ReplayedMeanwhileError
from stream.feeds.contract import Rule
from stream.flow import Road, RoadCommitter
from stream.lake.store import open_store
from stream.prove import prove_lake
from stream.query import run_query
from stream.redrive import redrive
from stream.silver import SilverKeys
from stream.slices import RECORD_SCHEMA, ShardRef, Slice, empty_records
from stream.sources.extract_lanes import ExtractLanes

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
T0 = 1_764_000_000 * SECOND
MIDNIGHT = (T0 // DAY + 1) * DAY
OLD = T0 - 5 * DAY
STREAM = "headrace-trades.00000000"
PARENT, CHILD = "shardId-000000000000", "shardId-000000000001"
ALL = (0, 10**13)
BARS = "SELECT coalesce(sum(trades), 0)::INT AS n FROM bars_1m_current"


class Driver:
    """One lake, and everything that may happen to it."""

    def __init__(self, lake: Any) -> None:
        self.small, self.lake, self.contract = lake, lake.lake, lake.contract
        self.last: dict[str, str | None] = {}
        self.number = 1_000

    def slice(self, at_ns: int, payloads: list[bytes], shard: str = PARENT) -> Slice:
        """The shard's next slice, arrived at a given time."""
        count, first = len(payloads), self.number
        self.number += count
        numbers = [str(first + i) for i in range(count)]
        batch = _records(payloads, numbers, [0] * count, at_ns)
        item = Slice(ShardRef("trades", STREAM, shard), self.last.get(shard), batch)
        self.last[shard] = item.last
        self.small.clock.sleep(max(0, (at_ns - self.small.clock.now_ns()) / SECOND))
        return item

    def end(self, shard: str = PARENT) -> Slice:
        ref = ShardRef("trades", STREAM, shard)
        return Slice(ref, self.last.get(shard), empty_records(), ends_shard=True)

    def decode_with(self, contract: Any, family: dict[str, tuple[str, ...]] | None = None) -> None:
        """Another version of the live process; `family`: shard -> parents."""
        parents = family or {}
        table, store = self.lake.table(contract), self.lake.store
        keys = SilverKeys(contract, table, store, lambda s: frozenset(parents.get(s.shard, ())))
        schema, dedup = self.small.table.arrow_schema, Dedup(contract, keys)
        self.small.road.close()
        self.small.road = Road(contract, self.lake.store, schema, dedup, upload_threads=2)
        self.small.committer = RoadCommitter(
            self.small.ledger, self.small.bars, parents_of=lambda s: parents.get(s.shard, ())
        )

    def land_live(self, item: Slice, restart: Callable[[], Any]) -> None:
        """Commit a slice; a replay of what the dedup remembers makes the process start again."""
        try:
            self.small.land(item)
        except ReplayedMeanwhileError:
            self.small = restart()
            self.small.land(item)

    def replay(self, contract: Any = None, span: tuple[int, int] = ALL) -> Any:
        decoder, source = contract or self.contract, BronzeSource(self.lake.store)
        settings, clock = self.small.settings, self.small.clock
        return replay_recorded(settings, self.lake, decoder, span, source, apply=True, clock=clock)

    def compact(self, last_day: date = date(2030, 1, 1), table: str = "trades") -> None:
        clock, region = self.small.clock, "us-east-1"
        compact_table(self.lake, table, region=region, last_day=last_day, apply=True, clock=clock)

    def extract(self, parts: list[list[bytes]], run_id: str = "run-1") -> Any:
        request = ExtractRequest("trades", date(2025, 11, 19), date(2025, 11, 19))
        return land_extract(self.lake.store, Canned(parts), request, run_id, clock=self.small.clock)

    def land(self, *manifests: Any) -> Any:
        settings, clock = self.small.settings, self.small.clock
        return replay_extracts(
            settings, self.lake, self.contract, manifests, apply=True, clock=clock
        )

    def rows(self, sql: str = "SELECT * FROM trades") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = run_query(self.small.settings, sql).to_pylist()
        return found

    def ids(self) -> list[int]:
        return sorted(int(row["trade_id"]) for row in self.rows())

    def check(self) -> None:
        proof = prove_lake(self.lake, self.contract)
        assert proof.is_equal, str(proof)


def _records(payloads: list[bytes], numbers: list[str], subs: list[int], at_ns: int) -> Any:
    count = len(subs)
    columns = [payloads, numbers, subs, ["k"] * count, [at_ns] * count]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, RECORD_SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=RECORD_SCHEMA)


class Canned:
    """An extractor of given messages, one part per list."""

    source = "vendor"

    def __init__(self, parts: list[list[bytes]]) -> None:
        self.parts = parts

    def feed_of(self, dataset: str) -> str:
        return "trades"

    def mapping_of(self, dataset: str) -> dict[str, object]:
        return {}

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        for lines in self.parts:
            yield Part(gzip.compress(b"\n".join(lines), mtime=0), "jsonl.gz", len(lines))


@pytest.fixture
def driver(small_lake: Any) -> Driver:
    made = Driver(small_lake)
    made.decode_with(made.contract)
    return made


def refuses(contract: Any, size: int = 9) -> Any:
    """A contract that refuses trades of one size."""
    kind = contract.column("size").type
    rule = Rule("bad_value", "x", lambda r: pc.equal(r["size"], pa.scalar(Decimal(size), kind)))
    return replace(contract, rules=(*contract.rules, rule))


def test_slice_of_two_days_with_one_changed_and_one_compacted_is_mended(
    driver: Driver, trade: Any
) -> None:
    before, after = MIDNIGHT - SECOND, MIDNIGHT
    one = [trade(1, at_ns=before), trade(2, at_ns=before, symbol="B"), trade(4, at_ns=after)]
    driver.small.land(
        driver.slice(MIDNIGHT + SECOND, [*one, trade(3, size="9", at_ns=after)]),
        driver.slice(MIDNIGHT + 3 * SECOND, [trade(5, at_ns=before), trade(6, at_ns=after)]),
    )
    driver.compact(last_day=date(2025, 11, 24))
    driver.replay(refuses(driver.contract))
    assert driver.ids() == [1, 2, 4, 5, 6]
    driver.check()
    driver.compact()
    driver.replay()
    assert driver.ids() == [1, 2, 3, 4, 5, 6]
    driver.compact()
    assert driver.replay().changed_slices == 0
    assert driver.rows(BARS) == [{"n": 6}]
    driver.check()


def test_slices_without_silver_rows_gain_and_lose_them(driver: Driver, trade: Any) -> None:
    old = refuses(driver.contract)
    driver.decode_with(old)
    driver.small.land(
        driver.slice(T0 + SECOND, [trade(1, size="9")]),
        driver.slice(T0 + 3 * SECOND, [trade(2, size="9"), b"garbage"]),
    )
    assert driver.replay().rows_added == 2
    driver.check()
    assert driver.replay(old).rows_removed == 2
    assert (driver.ids(), driver.rows(BARS)) == ([], [{"n": 0}])
    driver.check()
    assert driver.replay(old).commit is None


def test_aggregated_records_replay_message_by_message(driver: Driver, trade: Any) -> None:
    ref = ShardRef("trades", STREAM, PARENT)
    one = [trade(1, size="9"), trade(2), b"bad", trade(3)]
    two = [trade(2), trade(4), trade(3)]
    driver.small.land(
        Slice(ref, None, _records(one, ["5", "5", "5", "6"], [0, 1, 2, 0], T0 + SECOND)),
        Slice(ref, "6", _records(two, ["7", "7", "7"], [0, 1, 2], T0 + 3 * SECOND)),
    )
    assert driver.replay().changed_slices == 0
    driver.replay(refuses(driver.contract))
    assert driver.ids() == [2, 3, 4]
    driver.check()


def test_change_in_a_parent_is_followed_into_its_child(driver: Driver, trade: Any) -> None:
    driver.decode_with(driver.contract, {CHILD: (PARENT,)})
    driver.small.land(driver.slice(T0 + SECOND, [trade(1), trade(2, size="9")]), driver.end())
    driver.small.land(driver.slice(T0 + 10 * SECOND, [trade(2), trade(3)], CHILD))
    assert driver.replay().changed_slices == 0
    at_ms = T0 // 1_000_000 + 1_000
    fixed = refuses(driver.contract)
    assert driver.replay(fixed, (at_ms, at_ms + 1)).changed_slices == 2
    assert driver.ids() == [1, 2, 3]
    driver.check()
    assert driver.replay(fixed).changed_slices == 0


def test_corrections_and_cancels_that_a_replay_takes_away_show_in_bars(
    driver: Driver, trade: Any
) -> None:
    late = trade(5, at_ns=T0 - 7_200 * SECOND)
    correct = trade(1, "30", "9", kind="correct", known_at_ns=T0 + 5)
    cancel = trade(2, "20", "9", kind="cancel", known_at_ns=T0 + 6)
    driver.small.land(driver.slice(T0 + SECOND, [trade(1, "10"), trade(2, "20")]))
    driver.small.land(driver.slice(T0 + 3 * SECOND, [correct, late]))
    driver.small.land(driver.slice(T0 + 5 * SECOND, [cancel, late]))
    driver.small.committer.finish()
    sql = f"SELECT high::INT AS h, trades AS n FROM bars_1m_current WHERE ts_event_ns = {T0}"
    assert driver.rows(sql) == [{"h": 30, "n": 1}]
    assert driver.replay().changed_slices == 0
    driver.replay(refuses(driver.contract))
    assert driver.rows(sql) == [{"h": 20, "n": 2}]
    driver.check()
    driver.replay()
    assert driver.rows(sql) == [{"h": 30, "n": 1}]
    driver.check()


def test_zombie_of_a_closed_shard_lands_nothing_twice(
    driver: Driver, open_lake: Any, tmp_path: Path, trade: Any
) -> None:
    """It processed the slice before the shard's position left the table property."""
    zombie = open_lake(tmp_path)
    item = driver.slice(T0 + SECOND, [trade(1), trade(2)])
    stale = zombie.road.process([item])
    driver.small.land(item, driver.end())
    driver.small.ledger.close_shards(lambda *_: True)
    zombie.committer.add(stale)
    zombie.committer.commit()
    zombie.land(driver.slice(T0 + 3 * SECOND, [trade(3)]))
    assert driver.ids() == [1, 2]
    driver.check()


def test_slice_decided_before_a_replay_is_decided_anew_after_it(
    driver: Driver, open_lake: Any, tmp_path: Path, trade: Any
) -> None:
    driver.small.land(driver.slice(T0 + SECOND, [trade(1, size="9"), trade(2)]))
    item = driver.slice(T0 + 3 * SECOND, [trade(1, size="2"), trade(4)])
    driver.small.committer.add(driver.small.road.process([item]))
    driver.replay(refuses(driver.contract))
    with pytest.raises(ReplayedMeanwhileError):
        driver.small.committer.commit()
    open_lake(tmp_path).land(item)
    assert driver.ids() == [1, 2, 4]
    driver.check()


def test_extracts_landed_in_one_go_that_repeat_each_other_replay_unchanged(
    driver: Driver, trade: Any
) -> None:
    items = [trade(n, at_ns=OLD + n, size="9" if n == 4 else "2") for n in range(8)]
    one = driver.extract([items[:5], [], items[3:6]], "run-1")
    driver.land(one, driver.extract([items[4:8]], "run-2"))
    assert driver.ids() == list(range(8))
    assert driver.replay().changed_slices == 0
    fixed = refuses(driver.contract)
    driver.replay(fixed)
    driver.replay(fixed)  # settles what one run took from another
    assert driver.ids() == [0, 1, 2, 3, 5, 6, 7]
    assert driver.replay(fixed).changed_slices == 0
    driver.check()


def test_extract_resumed_with_another_rule_beside_its_zombie_lands_once(
    driver: Driver, trade: Any
) -> None:
    items = [trade(n % 70, at_ns=OLD + n % 70) for n in range(100)]
    manifest = driver.extract([items[:55], [], items[55:]])
    rule = replace(driver.small.settings.slice_rule, max_rows=20)
    lanes = ExtractLanes(driver.lake.store, [manifest], {}, rule)
    table, ledger = driver.lake.ledger("trades")
    keys = SilverKeys(driver.contract, table, driver.lake.store, lambda _: frozenset())
    dedup = RangeDedup(driver.contract, keys)
    schema = table.arrow_schema
    road = Road(driver.contract, driver.lake.store, schema, dedup, keep_bronze=lanes.part_of)
    zombie = RoadCommitter(ledger)
    zombie.add(road.process(_poll(lanes, 2)))
    zombie.commit()
    late = road.process(_poll(lanes, 99))
    road.close()
    driver.small.settings = driver.small.settings.model_copy(update={"slice_max_rows": 7})
    driver.land(manifest)
    for _ in range(2):
        zombie.add(late)
        zombie.commit()
        driver.small.ledger.close_shards(lambda *_: True)
    assert driver.ids() == list(range(70))
    assert driver.replay().changed_slices == 0
    driver.check()


def _poll(lanes: ExtractLanes, most: int) -> list[Slice]:
    found = (lanes.poll(0) for _ in range(most))
    return [item for item in found if item is not None]


def test_redriven_messages_of_an_extract_are_superseded_by_a_replay(
    driver: Driver, trade: Any
) -> None:
    good = driver.contract
    driver.contract = refuses(good)
    driver.land(driver.extract([[trade(1, at_ns=OLD, size="9"), trade(2, at_ns=OLD)]]))
    driver.contract = good
    clock = driver.small.clock
    assert redrive(driver.lake, good, dry_run=False, clock=clock).silver_rows == 1
    driver.check()
    driver.replay()
    assert driver.ids() == [1, 2]
    assert redrive(driver.lake, good, dry_run=False, clock=clock).silver_rows == 0
    assert driver.replay().commit is None
    driver.check()


def test_replay_store_keeps_aside_what_is_not_needed_yet(driver: Driver, tmp_path: Path) -> None:
    lake, scratch = driver.lake.store, open_store(f"file://{tmp_path}/aside")
    store = ReplayStore(lake, scratch, recorded={"silver/r"}, is_dry=False)
    store.put("silver/r", b"1")
    assert list(store.get_many(["silver/r", "silver/none"])) == [b"1", None]
    assert lake.get("silver/r") is None
    store.publish(["silver/r", "silver/other"])
    assert lake.get("silver/r") == b"1"
    dry = ReplayStore(lake, scratch, is_dry=True)
    assert (dry.put_once("bronze/x", b"2"), dry.put_once("silver/r", b"2")) == (True, False)
    assert not lake.exists("bronze/x")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_jobs_in_any_order_prove_equal_and_bars_follow(
    driver: Driver, open_lake: Any, tmp_path: Path, trade: Any, seed: int
) -> None:
    """The live process goes on beside all of them; every id is published once."""
    rng, ids = random.Random(seed), iter(range(10**6))
    expected: set[int] = set()
    for step in range(24):
        sizes = [rng.randint(1, 4) for _ in range(rng.randint(1, 6))]
        at = T0 + step * 2 * SECOND - rng.choice([0, 0, 40, 86_400]) * SECOND
        batch = [(next(ids), size) for size in sizes]
        messages = [trade(n, size=str(s), symbol=rng.choice("AB"), at_ns=at) for n, s in batch]
        job = rng.choice(["live", "live", "live", "extract", "replay", "compact", "bars"])
        if job in ("live", "extract"):
            expected |= {n for n, _ in batch}
        if job == "live":
            item = driver.slice(T0 + step * 2 * SECOND, messages)
            driver.land_live(item, lambda: open_lake(tmp_path))
        elif job == "extract":
            driver.land(driver.extract([messages], f"run-{step}"))
        elif job == "replay" and expected:
            driver.replay(refuses(driver.contract, rng.randint(1, 4)))
        elif expected:
            driver.compact(table="trades" if job == "compact" else "bars_1m")
        driver.check()
    driver.small.committer.finish()
    driver.replay()
    bars = open_bars(driver.lake, driver.contract, driver.small.ledger)
    assert bars is not None
    bars.catch_up()
    assert driver.ids() == sorted(expected)
    assert driver.rows(BARS) == [{"n": len(expected)}]
    driver.check()
