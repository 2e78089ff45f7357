"""The archiver's record processor: which slices, when a checkpoint, what a failure does.

`Library` calls it as the Kinesis Client Library does, with a lease of its own and a real store.
The library itself runs in `test_archiver_live`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.archive.processor import ArchiveRun, Dialect, RecordProcessor
from stream.archive.shard import ArchiveTally, ShardArchiver
from stream.bronze import read_bronze, write_bronze
from stream.clock import ManualClock
from stream.errors import FatalError, ImmutableObjectError, StoreUnavailableError
from stream.lake.store import Store, open_store
from stream.slices import ShardPosition, ShardRef, Slice, SliceRule, Start, cut_slices, pad_sequence
from stream.sources.kinesis_parser import build_records

RULE = SliceRule(window_ms=100, max_rows=4, max_bytes=1_000)
SHARD = ShardRef("trades", "ticks.0a1b2c3d", "shardId-000000000000")


class CheckpointError(Exception):
    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


@dataclass(frozen=True)
class Record:
    """A record as both libraries hand it over."""

    sequence_number: str
    arrival_ms: int
    binary_data: bytes = b"x"
    partition_key: str | None = "k"
    sub_sequence_number: int = 0


@dataclass
class Call:
    """The argument of every method of a processor."""

    checkpointer: object = None
    records: Sequence[Record] = ()
    millis_behind_latest: int = 1
    shard_id: str = SHARD.shard
    sequence_number: str = "TRIM_HORIZON"


@dataclass
class Lease:
    """One shard's row of the lease table, and what its owner asked of it."""

    store: Store
    checkpoint: str = "TRIM_HORIZON"
    refusals: list[str] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)

    def take(self, sequence_number: str | None, sub_sequence_number: int | None) -> None:
        if self.refusals:
            raise CheckpointError(self.refusals.pop(0))
        position = sequence_number or "SHARD_END"
        if position.isdecimal():
            assert sub_sequence_number == 0
            if position not in slice_ends(self.store):
                self.breaches.append(f"{position} is not the end of a durable slice")
            if self.checkpoint.isdecimal() and pad_sequence(position) <= pad_sequence(
                self.checkpoint
            ):
                self.breaches.append(f"{position} follows {self.checkpoint}")
        self.checkpoint = position


class Checkpointer:
    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def checkpoint(
        self, sequence_number: str | None = None, sub_sequence_number: int | None = None
    ) -> None:
        self._lease.take(sequence_number, sub_sequence_number)


class Place:
    """A real store, and whatever the ledger says."""

    def __init__(self, store: Store, rule: SliceRule, begins: ShardPosition | None = None) -> None:
        self.store, self._rule, self._begins = store, rule, begins
        self.tally = ArchiveTally()

    def open_shard(self, shard: str, position: str | None) -> ShardArchiver:
        assert shard == SHARD.shard
        return ShardArchiver(
            SHARD, position, self._rule, self.store, self.tally, begins=self._begins
        )


class Library:
    """Owns the shard, one processor at a time."""

    def __init__(
        self, rule: SliceRule, store: Store | None = None, begins: ShardPosition | None = None
    ) -> None:
        self.store = store or open_store("memory://archive")
        self.lease = Lease(self.store)
        self.place = Place(self.store, rule, begins)
        self.clock = ManualClock()
        self.new_owner()

    def new_owner(self) -> None:
        """The last one vanished without a word; another begins at the checkpoint."""
        self.run = ArchiveRun(_Impatient())
        self.processor = RecordProcessor(
            self.place,
            self.run,
            Dialect(lambda record: record.arrival_ms / 1000, CheckpointError),
            grace_ms=0,
            poll_ms=10,
            clock=self.clock,
        )
        self.processor.initialize(Call(sequence_number=self.lease.checkpoint))

    def deliver(self, records: Sequence[Record], *, behind_ms: int = 1) -> None:
        self.processor.process_records(
            Call(Checkpointer(self.lease), list(records), millis_behind_latest=behind_ms)
        )

    def end(self) -> None:
        self.processor.shard_ended(Call(Checkpointer(self.lease)))


class _Impatient(threading.Event):
    """Nobody waits in these tests: a pause is over at once; after many, a stop is requested."""

    pauses = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses += 1
        if self.pauses > 20:
            self.set()
        return super().wait(0)


class AwayStore:
    """A store that does not answer the first `times` writes; the rest is the real one's."""

    def __init__(self, store: Store, times: int) -> None:
        self._store, self._times = store, times

    def put_once(self, path: str, data: bytes) -> bool:
        if self._times:
            self._times -= 1
            raise StoreUnavailableError("the store is away")
        return self._store.put_once(path, data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def objects(store: Store) -> dict[str, bytes]:
    """Every Bronze object, by path."""
    return {info.path: store.get(info.path) or b"" for info in store.list("bronze/")}


def slice_ends(store: Store) -> set[str]:
    return {
        read_bronze(data, path)["sequence_number"][-1].as_py()
        for path, data in objects(store).items()
    }


def columns(records: Sequence[Record]):
    return build_records(
        [r.binary_data for r in records],
        [r.sequence_number for r in records],
        [r.partition_key for r in records],
        [r.arrival_ms / 1000 for r in records],
    )


def road(records: Sequence[Record], rule: SliceRule = RULE, *, closed: bool = True) -> Library:
    """What the road writes of the same records: its rule and its writer."""
    found = Library(rule)
    for item in cut_slices(SHARD, None, columns(records), rule, closed=closed):
        if item.rows:
            write_bronze(found.store, item)
    return found


def numbered(arrivals_ms: Sequence[int]) -> list[Record]:
    return [Record(str(n), at) for n, at in enumerate(arrivals_ms, start=1)]


@st.composite
def shards(draw: st.DrawFn) -> list[Record]:
    """A shard's records: arrivals go back as well, numbers skip and gain digits."""
    number, arrival, made = draw(st.integers(1, 95)), 1_000, []
    for _ in range(draw(st.integers(0, 25))):
        number += draw(st.integers(1, 60))
        arrival = max(0, arrival + draw(st.integers(-40, 90)))
        made.append(Record(str(number), arrival, bytes(draw(st.integers(0, 9)))))
    return made


STEPS = st.lists(st.sampled_from([0, 1, 2, 5, "owner vanishes"]), max_size=40)


@given(shards(), STEPS)
@settings(max_examples=40)
def test_objects_equal_the_roads_whatever_the_batches_and_whoever_dies(records, steps):
    library, at = Library(RULE), 0
    for step in [*steps, len(records)]:
        if isinstance(step, str):
            library.new_owner()
            done = library.lease.checkpoint
            at = next((i for i, r in enumerate(records, 1) if r.sequence_number == done), 0)
            continue
        library.deliver(records[at : at + step])
        at = min(at + step, len(records))
    library.end()
    assert objects(library.store) == objects(road(records).store)
    assert library.lease.checkpoint == "SHARD_END"
    assert not library.lease.breaches
    assert library.run.failure is None


@settings(max_examples=40)
@given(shards(), st.lists(st.integers(1, 6), max_size=30), st.integers(1, 4))
def test_cuts_that_bronze_holds_are_adopted_wherever_they_are(records, sizes, step):
    """The road cut some slices at a quiet tip, where the rule alone would not."""
    library, prev, at = Library(RULE), None, 0
    for size in sizes:
        item = Slice(SHARD, prev, columns(records[at : at + size]))
        if not item.rows:
            break
        write_bronze(library.store, item)
        prev, at = item.last, at + size
    before = objects(library.store)
    for start in range(0, len(records), step):
        library.deliver(records[start : start + step])
    library.end()
    found = objects(library.store)
    assert {path: found[path] for path in before} == before
    assert rows_of(library) == [r.sequence_number for r in records]
    assert not library.lease.breaches


def rows_of(library: Library) -> list[str]:
    """Every archived sequence number, with its repetitions."""
    stored = [read_bronze(data, path) for path, data in objects(library.store).items()]
    return sorted((n for b in stored for n in b["sequence_number"].to_pylist()), key=int)


def test_checkpoint_stands_at_the_end_of_a_slice_and_never_in_the_open_one():
    library = Library(RULE)
    library.deliver(numbered([10, 20, 30]))
    assert library.lease.checkpoint == "TRIM_HORIZON"
    assert not objects(library.store)
    library.deliver([Record("4", 120)])
    assert library.lease.checkpoint == "3"
    assert slice_ends(library.store) == {"3"}


def test_slice_that_another_writer_cut_meanwhile_is_found_and_its_cut_repeated():
    library, records = Library(RULE), numbered([10, 20, 30, 130])
    library.deliver(records[:1])  # the first cut is ours to make: Bronze holds nothing here
    write_bronze(library.store, Slice(SHARD, None, columns(records[:2])))
    library.deliver(records[1:])
    assert library.lease.checkpoint == "3"
    assert slice_ends(library.store) == {"2", "3"}
    assert library.place.tally.adopted == 1


def test_slice_of_another_writer_that_is_longer_is_waited_for():
    library, records = Library(RULE), numbered([10, 20, 130])
    library.deliver(records[:1])
    write_bronze(library.store, Slice(SHARD, None, columns(records)))
    library.clock.sleep(10)
    library.deliver([], behind_ms=0)  # our quiet tip, too early
    assert library.lease.checkpoint == "TRIM_HORIZON"
    library.deliver(records[1:])
    assert library.lease.checkpoint == "3"
    assert len(objects(library.store)) == 1


@pytest.mark.parametrize("call", ["empty batch", "tick"])
def test_quiet_window_at_the_tip_is_cut_after_the_grace(call):
    library = Library(RULE)
    library.deliver(numbered([10, 20]), behind_ms=0)
    for now, expected in ((0.149, "TRIM_HORIZON"), (0.151, "2")):
        library.clock.sleep(now - library.clock.monotonic())
        if call == "tick":
            library.processor.tick()
        else:
            library.deliver([], behind_ms=0)
        assert library.lease.checkpoint == expected


def test_tick_far_from_the_tip_cuts_nothing():
    library = Library(RULE)
    library.deliver(numbered([10, 20]), behind_ms=5_000)
    library.clock.sleep(60)
    library.processor.tick()
    assert library.lease.checkpoint == "TRIM_HORIZON"


def test_store_that_is_away_is_waited_for():
    library = Library(RULE)
    library.place.store = AwayStore(library.store, times=3)
    library.new_owner()
    library.deliver(numbered([10, 120]))
    assert library.lease.checkpoint == "1"
    assert library.run.failure is None


def test_stop_while_the_store_is_away_leaves_the_slice_to_the_next_owner():
    library = Library(RULE)
    library.place.store = AwayStore(library.store, times=1_000)
    library.new_owner()
    library.deliver(numbered([10, 120]))
    assert library.processor.is_over
    assert library.run.failure is None
    assert library.lease.checkpoint == "TRIM_HORIZON"


@pytest.mark.parametrize("reason", ["ThrottlingException", "KinesisClientLibDependencyException"])
def test_checkpoint_that_may_succeed_later_is_repeated(reason):
    library = Library(RULE)
    library.lease.refusals = [reason, reason]
    library.deliver(numbered([10, 120]))
    assert library.lease.checkpoint == "1"


def test_checkpoint_after_the_lease_was_lost_ends_the_processor_without_a_failure():
    library = Library(RULE)
    library.lease.refusals = ["ShutdownException"]
    library.deliver(numbered([10, 120]))
    assert library.processor.is_over
    assert library.run.failure is None
    library.deliver([Record("3", 230)])
    assert slice_ends(library.store) == {"1"}


def test_checkpoint_refused_for_good_is_a_failure_that_names_the_position():
    library = Library(RULE)
    library.lease.refusals = ["InvalidStateException"]
    with pytest.raises(FatalError, match=r"refused the checkpoint 1: InvalidStateException"):
        library.deliver(numbered([10, 120]))


def test_nothing_behind_a_failure_is_archived_although_the_library_goes_on():
    library, records = Library(RULE), numbered([10, 120, 230, 340])
    forged = Slice(SHARD, None, columns([Record("1", 10, b"other bytes")]))
    write_bronze(library.store, forged)
    with pytest.raises(ImmutableObjectError):
        library.deliver(records[:2])
    library.deliver(records[2:])  # as the library does: it passes over the failed batch
    library.end()
    assert library.lease.checkpoint == "TRIM_HORIZON"
    assert len(objects(library.store)) == 1
    assert isinstance(library.run.failure, ImmutableObjectError)
    assert library.run.stopping.is_set()


def test_lease_that_is_lost_leaves_the_open_slice_unwritten():
    library = Library(RULE)
    library.deliver(numbered([10, 20]))
    library.processor.lease_lost(Call())
    library.deliver([Record("3", 230)])
    assert not objects(library.store)
    assert library.processor.is_over


def test_shutdown_request_writes_and_checkpoints_nothing():
    library = Library(RULE)
    library.deliver(numbered([10, 20]))
    library.processor.shutdown_requested(Call(Checkpointer(library.lease)))
    assert not objects(library.store)
    assert library.lease.checkpoint == "TRIM_HORIZON"


def test_records_that_are_delivered_again_are_passed_over():
    library, records = Library(RULE), numbered([10, 20, 120])
    library.deliver(records[:2])
    library.deliver(records)
    library.end()
    assert rows_of(library) == ["1", "2", "3"]


def test_aggregated_record_is_refused_with_what_to_do():
    library = Library(RULE)
    part = Record("1", 10, sub_sequence_number=1)
    with pytest.raises(FatalError, match=r"\(KPL\) aggregated record 1.*headrace run"):
        library.deliver([Record("1", 10), part])


def test_shard_that_the_road_has_begun_is_taken_up_where_the_ledger_is():
    library = Library(RULE, begins=ShardPosition("2"))
    library.deliver(numbered([10, 20, 30, 120]))
    library.end()
    assert rows_of(library) == ["3", "4"]


def test_shard_that_the_road_begins_at_a_time_begins_there():
    begins = ShardPosition(None, start=Start("AT_TIMESTAMP", timestamp_ms=25))
    library = Library(RULE, begins=begins)
    library.deliver(numbered([10]))
    library.deliver([Record("2", 30), Record("3", 24)])  # after the first one, all count
    library.end()
    assert rows_of(library) == ["2", "3"]


@pytest.mark.parametrize(
    ("begins", "expected"),
    [
        (ShardPosition(None, start=Start("TRIM_HORIZON")), ["1", "2"]),
        (ShardPosition(None, is_ended=True), []),
    ],
)
def test_shard_that_the_road_only_pinned_begins_as_it_was_pinned(begins, expected):
    library = Library(RULE, begins=begins)
    library.deliver(numbered([10, 20]))
    library.end()
    assert rows_of(library) == expected
    assert library.lease.checkpoint == "SHARD_END"
