"""Lanes over the in-memory stream: which shards open when, what is emitted, what stops them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from stream.clock import SYSTEM_CLOCK, ManualClock
from stream.errors import (
    ConfigError,
    FatalError,
    ImmutableObjectError,
    StoreUnavailableError,
    ThrottledError,
)
from stream.slices import ShardPosition, ShardRef, Slice, SliceRule, Start, cut_slices
from stream.sources import HASH_SPACE, ExpiredCursorError, ReadResult
from stream.sources.fetcher import Credit
from stream.sources.lanes import Lanes, lane_of
from stream.sources.memory import MemoryReader, MemoryStream
from stream.sources.starts import parse_start

FAST = {"poll_ms": 10, "grace_ms": 0, "list_shards_seconds": 0.05, "reads_per_second": 500.0}
SMALL = SliceRule(window_ms=1_000, max_rows=10)
ARRIVAL_MS = 1_700_000_000_000


@dataclass
class Positions:
    """A ledger that commits what the test says."""

    held: dict[str, ShardPosition] = field(default_factory=dict)
    reads: int = 0

    def read(self) -> Mapping[str, ShardPosition]:
        self.reads += 1
        return dict(self.held)

    def apply(self, item: Slice) -> None:
        before = self.held.get(item.shard.shard, ShardPosition(None))
        assert item.prev == before.sequence_number
        self.held[item.shard.shard] = ShardPosition(
            item.last, item.ends_shard, before.start, item.arrival_ns[1] // 1_000_000
        )


@dataclass
class Seals:
    """Bronze: slices by their first record."""

    objects: dict[tuple[ShardRef, str], pa.RecordBatch] = field(default_factory=dict)
    failures: int = 0

    def find(self, shard: ShardRef, first: str, ts_arrival_ns: int) -> pa.RecordBatch | None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("bronze does not answer")
        return self.objects.get((shard, first))

    def write(self, item: Slice) -> None:
        assert item.first is not None
        self.objects[item.shard, item.first] = item.records


class Faulty(MemoryReader):
    """A reader whose next calls raise what the test lines up."""

    def __init__(self, stream: MemoryStream) -> None:
        super().__init__(stream)
        self.faults: list[Exception] = []
        self.reads: list[float] = []
        self.rows: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def read(self, shard: str, cursor: str, limit: int = 10_000) -> ReadResult:
        self.gate.wait(5)
        self.reads.append(time.monotonic())
        if self.faults:
            raise self.faults.pop(0)
        answer = super().read(shard, cursor, limit)
        self.rows.append(answer.records.num_rows)
        return answer


@dataclass
class Rig:
    stream: MemoryStream
    reader: Faulty
    positions: Positions = field(default_factory=Positions)
    seals: Seals = field(default_factory=Seals)
    running: list[Lanes] = field(default_factory=list)

    def lanes(self, rule: SliceRule = SMALL, **options: object) -> Lanes:
        lanes = Lanes(
            "trades",
            self.reader,
            self.positions,
            self.seals,
            rule,
            **{**FAST, "clock": self.stream.clock, **options},  # type: ignore[arg-type]
        )
        self.running.append(lanes)
        lanes.start()
        return lanes

    def put(self, count: int, first: int = 0, key: int = 0, window: int = 0) -> None:
        """Records whose arrival lies in a past window, so that quiet windows close at once."""
        for i in range(first, first + count):
            self.stream.put(
                b"%d" % i, "k", explicit_hash_key=key, arrival_ms=ARRIVAL_MS + window * 1_000
            )

    def ref(self, shard: int = 0) -> ShardRef:
        return ShardRef("trades", str(self.reader.identity), f"shardId-{shard:012d}")


@pytest.fixture
def rig() -> Iterator[Rig]:
    clock = ManualClock(ARRIVAL_MS * 1_000_000 + 60_000_000_000)
    stream = MemoryStream("ticks", 1, clock)
    made = Rig(stream, Faulty(stream))
    yield made
    for lanes in made.running:
        lanes.stop()
        assert not any(thread.is_alive() for thread in lanes._threads)


def take(lanes: Lanes, until: Callable[[list[Slice]], bool], seconds: float = 5.0) -> list[Slice]:
    """Poll all lanes like the engine does, until the condition holds."""
    found: list[Slice] = []
    deadline = time.monotonic() + seconds
    while not until(found):
        assert time.monotonic() < deadline, f"timed out with {found}; {lanes.status()}"
        items = [lanes.poll(i) for i in range(len(lanes.names))]
        found += [item for item in items if item is not None]
        if not any(items):
            time.sleep(0.002)
    return found


def rows(count: int) -> Callable[[list[Slice]], bool]:
    return lambda found: sum(item.rows for item in found) >= count


def payloads(found: list[Slice]) -> list[bytes]:
    return [p for item in found for p in item.records["payload"].to_pylist()]


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_lane_of_a_shard_is_a_function_of_its_first_hash_key() -> None:
    assert [lane_of(HASH_SPACE * i // 8, 8) for i in range(8)] == list(range(8))
    assert lane_of(HASH_SPACE - 1, 64) == 63


def test_lanes_names_are_fixed_and_polling_an_idle_lane_is_none(rig: Rig) -> None:
    lanes = rig.lanes(lanes=64)

    assert lanes.names[0] == "lane-00"
    assert len(set(lanes.names)) == 64
    assert lanes.poll(63) is None
    assert not lanes.has_shards(63)
    assert not lanes.is_finished(0)


def test_lanes_slices_equal_those_of_the_pure_cut(rig: Rig) -> None:
    rig.put(25)
    rig.put(7, first=25, window=3)
    lanes = rig.lanes()

    found = take(lanes, rows(32))

    everything = rig.reader.read(
        "shardId-000000000000", rig.reader.open_shard("shardId-000000000000", Start("TRIM_HORIZON"))
    ).records
    expected = cut_slices(rig.ref(), None, everything, SMALL, closed=True)[:-1]
    assert [(s.prev, s.first, s.last, s.rows) for s in found] == [
        (s.prev, s.first, s.last, s.rows) for s in expected
    ]
    assert all(s.records.equals(e.records) for s, e in zip(found, expected, strict=True))


def test_lanes_open_window_is_held_until_clock_passes_it_and_the_grace(rig: Rig) -> None:
    now_ms = rig.stream.clock.now_ns() // 1_000_000
    rig.stream.put(b"x", "k", arrival_ms=now_ms)
    lanes = rig.lanes(grace_ms=500)
    wait_for(lambda: len(rig.reader.rows) > 3)

    assert lanes.poll(0) is None
    assert lanes.status()[0].pending_rows == 1
    rig.stream.clock.sleep(1.4)
    wait_for(lambda: len(rig.reader.rows) > 8)
    assert lanes.poll(0) is None
    rig.stream.clock.sleep(0.2)

    assert payloads(take(lanes, rows(1))) == [b"x"]


def test_lanes_with_a_committed_position_start_after_it(rig: Rig) -> None:
    rig.put(10)
    rig.positions.held["shardId-000000000000"] = ShardPosition("4", arrival_ms=ARRIVAL_MS)

    found = take(rig.lanes(), rows(6))

    assert payloads(found) == [b"%d" % i for i in range(4, 10)]
    assert found[0].prev == "4"


def test_lanes_with_a_pinned_start_use_it_instead_of_the_setting(rig: Rig) -> None:
    rig.put(3)
    rig.put(3, first=3, window=5)
    pinned = Start("AT_TIMESTAMP", timestamp_ms=ARRIVAL_MS + 5_000)
    rig.positions.held["shardId-000000000000"] = ShardPosition(None, start=pinned)

    found = take(rig.lanes(start="TRIM_HORIZON"), rows(3))

    assert payloads(found) == [b"3", b"4", b"5"]
    assert found[0].prev is None


def test_lanes_without_any_position_use_the_start_setting(rig: Rig) -> None:
    rig.put(3)
    lanes = rig.lanes(start="LATEST")
    wait_for(lambda: bool(rig.reader.rows))
    rig.stream.clock.sleep(1)
    rig.stream.put(b"new", "k")
    rig.stream.clock.sleep(5)

    assert payloads(take(lanes, rows(1))) == [b"new"]


def test_lanes_shard_without_position_beside_others_starts_at_its_first_record(rig: Rig) -> None:
    rig.put(3)
    rig.positions.held["shardId-000000000077"] = ShardPosition("1")

    assert payloads(take(rig.lanes(start="LATEST"), rows(3))) == [b"0", b"1", b"2"]


def test_lanes_child_opens_only_when_its_parent_is_ended_in_the_ledger(rig: Rig) -> None:
    rig.put(5)
    rig.stream.split_shard("shardId-000000000000")
    rig.put(5, first=5)
    rig.put(5, first=10, key=HASH_SPACE - 1)
    lanes = rig.lanes()

    parent = take(lanes, lambda found: any(s.ends_shard for s in found))
    assert payloads(parent) == [b"%d" % i for i in range(5)]
    assert parent[-1].rows == 0
    time.sleep(0.1)
    assert all(lanes.poll(i) is None for i in range(64))
    assert {s.state for s in lanes.status()} == {"ended", "waiting"}

    for item in parent:
        rig.positions.apply(item)
    children = take(lanes, rows(10))
    assert sorted(payloads(children)) == sorted(b"%d" % i for i in range(5, 15))
    assert {s.prev for s in children} == {None}


def test_lanes_child_of_a_merge_waits_for_both_parents(rig: Rig) -> None:
    low, high = rig.stream.split_shard("shardId-000000000000")
    merged = rig.stream.merge_shards(low, high)
    rig.put(1)
    ended = ShardPosition(None, is_ended=True)
    rig.positions.held.update({"shardId-000000000000": ended, low: ended})
    lanes = rig.lanes()

    take(lanes, lambda found: [s.shard.shard for s in found] == [high])
    time.sleep(0.05)
    assert [s.shard.shard for s in lanes.status() if s.state == "waiting"] == [merged]
    rig.positions.held[high] = ended

    assert payloads(take(lanes, rows(1))) == [b"0"]


def test_lanes_child_of_a_parent_that_is_not_listed_any_more_opens_at_once(rig: Rig) -> None:
    rig.stream.split_shard("shardId-000000000000")
    rig.stream.clock.sleep(86_400 + 120)  # the parent leaves the list
    rig.stream.put(b"x", "k")
    lanes = rig.lanes()
    rig.stream.clock.sleep(10)

    assert payloads(take(lanes, rows(1))) == [b"x"]


def test_lanes_ended_shard_is_skipped(rig: Rig) -> None:
    rig.put(3)
    rig.positions.held["shardId-000000000000"] = ShardPosition("3", is_ended=True)
    lanes = rig.lanes()
    wait_for(lambda: rig.positions.reads > 0)
    time.sleep(0.05)

    assert not rig.reader.reads
    assert not lanes.has_shards(0)


def test_lanes_without_waiting_shards_leave_the_catalog_alone(rig: Rig) -> None:
    rig.lanes(list_shards_seconds=0.01, clock=SYSTEM_CLOCK)
    wait_for(lambda: len(rig.reader.reads) > 5)
    time.sleep(0.1)

    assert rig.positions.reads == 1


def test_lanes_only_fetch_the_lanes_of_this_process(rig: Rig) -> None:
    rig.stream.split_shard("shardId-000000000000")
    rig.positions.held["shardId-000000000000"] = ShardPosition(None, is_ended=True)
    rig.put(1)
    rig.put(1, first=1, key=HASH_SPACE - 1)

    assert payloads(take(rig.lanes(lanes=2, only=[1]), rows(1))) == [b"1"]


def test_lanes_after_an_expired_cursor_go_on_after_the_last_record_read(rig: Rig) -> None:
    rig.stream.max_answer_rows = 4
    rig.put(12)
    rig.reader.faults = [ExpiredCursorError("before the first record")]
    lanes = rig.lanes()
    wait_for(lambda: sum(rig.reader.rows) >= 8)
    rig.reader.faults = [ExpiredCursorError("in the middle")]

    assert payloads(take(lanes, rows(12))) == [b"%d" % i for i in range(12)]


def test_lanes_wait_out_throttling_and_outages_and_say_so(rig: Rig) -> None:
    rig.put(3)
    rig.reader.faults = [ThrottledError("rate exceeded"), StoreUnavailableError("no answer")]
    lanes = rig.lanes()
    wait_for(lambda: any(s.state == "backing_off" for s in lanes.status()))
    assert lanes.status()[0].detail

    assert payloads(take(lanes, rows(3))) == [b"0", b"1", b"2"]
    waits = [b - a for a, b in zip(rig.reader.reads, rig.reader.reads[1:], strict=False)]
    assert waits[0] >= 0.125
    assert waits[1] >= 0.25


@pytest.mark.parametrize("error", [FatalError("stop"), ConfigError("no permission")])
def test_lanes_poll_raises_what_a_shard_died_of_after_its_ready_slices(
    rig: Rig, error: Exception
) -> None:
    rig.put(3)
    lanes = rig.lanes()
    wait_for(lambda: lanes.has_shards(0) and sum(rig.reader.rows) == 3)
    rig.reader.faults = [error]

    assert payloads(take(lanes, rows(3))) == [b"0", b"1", b"2"]
    with pytest.raises(type(error), match=str(error)):
        take(lanes, lambda _: False)
    with pytest.raises(type(error)):
        lanes.poll(0)
    assert lanes.status()[0].state == "failed"


def test_lanes_poll_raises_when_listing_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConfigError("stream ticks does not exist")

    monkeypatch.setattr(rig.reader, "list_shards", refuse)
    lanes = rig.lanes()

    with pytest.raises(ConfigError, match="does not exist"):
        take(lanes, lambda _: False)


def test_lanes_listing_outage_is_waited_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(1)
    outages = [StoreUnavailableError("away"), ThrottledError("slow down")]
    listed = rig.stream.list_shards

    def list_shards() -> object:
        if outages:
            raise outages.pop()
        return listed()

    monkeypatch.setattr(rig.reader, "list_shards", list_shards)

    assert payloads(take(rig.lanes(), rows(1))) == [b"0"]


def test_lanes_position_older_than_retention_names_the_gap_and_goes_on(rig: Rig) -> None:
    rig.put(10)
    rig.positions.held["shardId-000000000000"] = ShardPosition("4", arrival_ms=ARRIVAL_MS)
    rig.stream.clock.sleep(86_400)
    rig.stream.put(b"kept", "k")
    rig.stream.clock.sleep(10)
    lanes = rig.lanes()

    found = take(lanes, rows(1))

    assert payloads(found) == [b"kept"]
    assert found[0].prev == "4"
    [gap] = lanes.gaps()
    assert (gap.shard, gap.after, gap.first_kept) == (rig.ref(), "4", "11")
    assert "24 h" in gap.reason
    assert lanes.gaps() == []


def test_lanes_old_position_whose_record_is_still_kept_is_no_gap(rig: Rig) -> None:
    rig.put(10)
    rig.positions.held["shardId-000000000000"] = ShardPosition("4", arrival_ms=1)

    lanes = rig.lanes()

    take(lanes, rows(6))
    assert lanes.gaps() == []


def test_lanes_restart_repeats_the_cuts_that_bronze_holds_under_another_rule(rig: Rig) -> None:
    rig.put(30)
    first = take(rig.lanes(SliceRule(window_ms=1_000, max_rows=7)), rows(30))
    for item in first[:3]:
        rig.seals.write(item)
    rig.positions.apply(first[0])
    rig.stream.max_answer_rows = 4  # an adopted slice needs several answers

    again = take(rig.lanes(SliceRule(window_ms=1_000, max_rows=4)), rows(23))

    assert [s.rows for s in again] == [7, 7, 4, 4, 1]
    assert all(a.records.equals(b.records) for a, b in zip(again, first[1:3], strict=False))
    assert again[0].prev == first[0].last


def test_lanes_adoption_waits_for_bronze_to_answer(rig: Rig) -> None:
    rig.put(6)
    rig.seals.failures = 2
    first = take(rig.lanes(), rows(6))

    assert [s.rows for s in first] == [6]


def test_lanes_sealed_slice_with_other_records_is_refused_with_both_hashes(rig: Rig) -> None:
    rig.put(6)
    [made] = take(rig.lanes(), rows(6))
    column = made.records.schema.get_field_index("payload")
    forged = made.records.set_column(column, "payload", pa.array([b"z"] * 6, pa.binary()))
    rig.seals.objects[made.shard, str(made.first)] = forged.cast(made.records.schema)

    with pytest.raises(ImmutableObjectError, match=r"sha256 \w+.*sha256 \w+"):
        take(rig.lanes(), lambda _: False)


def test_lanes_sealed_slice_longer_than_the_ended_shard_is_refused(rig: Rig) -> None:
    rig.put(6)
    [made] = take(rig.lanes(), rows(6))
    number = made.records.schema.get_field_index("sequence_number")
    longer = made.records.set_column(
        number, "sequence_number", pa.array([str(i) for i in range(1, 6)] + ["99"])
    )
    rig.seals.objects[made.shard, "1"] = longer.cast(made.records.schema)
    rig.stream.split_shard("shardId-000000000000")

    with pytest.raises(ImmutableObjectError, match="up to 99"):
        take(rig.lanes(), lambda _: False)


def test_lanes_nobody_polls_reading_stops_near_the_byte_bound(rig: Rig) -> None:
    rig.stream.max_answer_rows = 50
    for i in range(5_000):
        rig.stream.put(b"x" * 1_000, "k", arrival_ms=ARRIVAL_MS + i)
    limit = 400_000
    lanes = rig.lanes(SliceRule(window_ms=1_000, max_rows=20), queue_bytes=limit)
    wait_for(lambda: lanes.status() != [] and lanes.status()[0].state == "paused")
    time.sleep(0.1)

    held = lanes._credit.used_bytes
    assert limit / 2 < held <= limit + 60_000
    assert lanes.status()[0].records < 600
    assert len(payloads(take(lanes, rows(5_000), seconds=20))) == 5_000
    assert lanes._credit.used_bytes <= limit


def test_lanes_slice_larger_than_the_whole_credit_still_passes(rig: Rig) -> None:
    rig.put(30)

    assert len(payloads(take(rig.lanes(queue_bytes=1), rows(30)))) == 30


@pytest.mark.parametrize("situation", ["tip", "credit", "back-off", "gate"])
def test_lanes_stop_within_a_second(rig: Rig, situation: str) -> None:
    rig.put(100)
    if situation == "back-off":
        rig.reader.faults = [ThrottledError("slow")] * 1_000
    if situation == "gate":
        rig.stream.split_shard("shardId-000000000000")
    lanes = rig.lanes(queue_bytes=1 if situation == "credit" else 1_000_000, poll_ms=60_000)
    time.sleep(0.15)

    began = time.monotonic()
    lanes.stop()

    assert time.monotonic() - began < 1
    assert not any(thread.is_alive() for thread in lanes._threads)


def test_lanes_stop_does_not_wait_for_an_answer_that_hangs(rig: Rig) -> None:
    rig.reader.gate.clear()
    lanes = rig.lanes()
    time.sleep(0.05)

    began = time.monotonic()
    lanes.stop()

    assert time.monotonic() - began < 1.2
    rig.reader.gate.set()
    wait_for(lambda: not any(thread.is_alive() for thread in lanes._threads))


def test_lanes_read_a_shard_at_most_five_times_a_second(rig: Rig) -> None:
    rig.stream.max_answer_rows = 1
    rig.put(100)
    rig.lanes(reads_per_second=5.0, clock=SYSTEM_CLOCK)
    time.sleep(1.05)

    assert len(rig.reader.reads) <= 7


def test_lanes_status_counts_what_was_read(rig: Rig) -> None:
    rig.put(5)
    lanes = rig.lanes()
    take(lanes, rows(5))

    [status] = lanes.status()

    assert (status.shard, status.records, status.last_sequence_number) == (rig.ref(), 5, "5")
    assert (status.behind_ms, status.pending_rows) == (0, 0)
    assert status.payload_bytes > 0


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01T00:00:00"])
def test_parse_start_of_anything_else_says_what_is_accepted(text: str) -> None:
    with pytest.raises(ConfigError, match="TRIM_HORIZON, LATEST nor an ISO time"):
        parse_start(text, 0)


def test_parse_start_takes_a_time_without_zone_as_utc() -> None:
    assert parse_start("2026-11-23T09:30:00", 0) == parse_start("2026-11-23T10:30:00+01:00", 0)


def test_credit_waits_only_while_something_is_used() -> None:
    credit = Credit(10)
    with credit.hold(100):
        assert credit.used_bytes == 100
    credit.take(5)
    with credit.hold(5):
        assert credit.used_bytes == 10
    credit.give_back(5)
    assert credit.used_bytes == 0
