"""A small lake on the local disk, built by the real road without engine or emulators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from stream.bar_keeper import BarKeeper
from stream.bars import BARS, DOCS, ORDER, TABLE
from stream.clock import ManualClock
from stream.dedup import Dedup, horizon_ns
from stream.feeds import load_feed
from stream.feeds.contract import Contract, RejectLimit
from stream.flow import Road, RoadCommitter, SliceResult
from stream.lake.catalog import LakeTable
from stream.lake.connect import Lake, connect_lake
from stream.lake.entries import Entry
from stream.lake.ledger import Ledger
from stream.settings import Settings, load_settings
from stream.silver import SilverKeys
from stream.slices import RECORD_SCHEMA, ShardPosition, ShardRef, Slice, Start

T0_NS = 1_764_000_000_000_000_000
SECOND = 1_000_000_000
STREAM = "headrace-trades.00000000"


def trade(
    trade_id: int,
    price: str = "100.5",
    size: str = "2",
    *,
    symbol: str = "ACME",
    at_ns: int = T0_NS,
    kind: str = "new",
    known_at_ns: int | None = None,
) -> bytes:
    """One canonical trade message."""
    message = {
        "venue": "sim",
        "symbol": symbol,
        "trade_id": str(trade_id),
        "kind": kind,
        "ts_event_ns": at_ns,
        "price": orjson.Fragment(price),
        "size": orjson.Fragment(size),
        "side": "buy",
    }
    if known_at_ns is not None:
        message["known_at_ns"] = known_at_ns
    return orjson.dumps(message)


def records(payloads: Sequence[bytes], first: int, arrival_ns: int) -> pa.RecordBatch:
    """Records with consecutive sequence numbers, one millisecond apart."""
    count = len(payloads)
    return pa.record_batch(
        [
            pa.array(payloads, pa.binary()),
            pa.array([str(first + i) for i in range(count)]),
            pa.array([0] * count, pa.int32()),
            pa.array(["sim:0"] * count),
            pa.array([arrival_ns + i * 1_000_000 for i in range(count)], pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )


@dataclass
class SmallLake:
    """A lake and one process that fills it: `land` slices, then look."""

    settings: Settings
    lake: Lake
    contract: Contract
    table: LakeTable
    ledger: Ledger
    clock: ManualClock
    road: Road
    committer: RoadCommitter
    bars: BarKeeper
    next_sequence: dict[str, int] = field(default_factory=dict)
    last: dict[str, str | None] = field(default_factory=dict)
    arrival_ns: int = T0_NS
    results: list[SliceResult] = field(default_factory=list)

    def slice(self, payloads: Sequence[bytes], shard: str = "shardId-000000000000") -> Slice:
        """The shard's next slice: arrival two seconds after the one before."""
        self.arrival_ns += 2 * SECOND
        self.clock.sleep(max(0, (self.arrival_ns - self.clock.now_ns()) / 1e9))
        reference = ShardRef("trades", STREAM, shard)
        first = self.next_sequence.setdefault(shard, 1_000)
        item = Slice(reference, self.last.get(shard), records(payloads, first, self.arrival_ns))
        self.next_sequence[shard] = first + len(payloads)
        self.last[shard] = item.last
        return item

    def land(self, *slices: Slice) -> None:
        """Process and commit slices in one epoch."""
        results = self.road.process(slices)
        self.results.extend(results)
        self.committer.add(results)
        self.committer.commit()

    def land_trades(
        self, count: int = 100, *, shard: str = "shardId-000000000000", **kwargs: str
    ) -> Slice:
        """One slice of `count` new trades."""
        first = self.next_sequence.get(shard, 1_000) + int(shard[-1]) * 1_000_000
        at = self.arrival_ns + SECOND
        item = self.slice([trade(first + i, at_ns=at + i, **kwargs) for i in range(count)], shard)
        self.land(item)
        return item

    def end(self, shard: str = "shardId-000000000000") -> None:
        """Say that the shard was closed and read to its end."""
        empty = records([], 0, 0)
        self.land(
            Slice(ShardRef("trades", STREAM, shard), self.last.get(shard), empty, ends_shard=True)
        )

    def entries(self) -> list[Entry]:
        return self.ledger.entries()

    def path(self, key: str) -> Path:
        """An object as a file."""
        return Path(self.lake.store.uri(key).removeprefix("file://"))


def open_small_lake(home: Path, contract: Contract | None = None) -> SmallLake:
    """A lake in a folder; opened again it goes on where it was committed."""
    settings = load_settings(home=home, lake=f"file://{home}/lake")
    lake = connect_lake(settings)
    contract = contract or replace(load_feed("trades"), rejects=RejectLimit(0.9, 10_000, 1_000))
    clock = ManualClock(T0_NS)
    table = lake.table(contract)
    ledger = Ledger(contract.feed, table, lake.store, clock)
    reference = ShardRef(contract.feed, STREAM, "shardId-000000000000")
    ledger.start({str(reference): ShardPosition(None, start=Start("TRIM_HORIZON"))})
    bars = BarKeeper(
        lake.catalog.open_or_create(TABLE, BARS, ORDER, DOCS),
        lake.table(contract),
        ledger,
        lake.store,
        leaves_batch=True,
    )
    keys = SilverKeys(contract, lake.table(contract), lake.store, lambda _: frozenset())
    dedup = Dedup(contract, keys)
    road = Road(contract, lake.store, table.arrow_schema, dedup, upload_threads=2)
    committer = RoadCommitter(ledger, bars, horizon=horizon_ns(contract.dedup_minutes))
    return SmallLake(settings, lake, contract, table, ledger, clock, road, committer, bars)


@pytest.fixture(name="trade")
def trade_message() -> Callable[..., bytes]:
    """Build one canonical trade message."""
    return trade


@pytest.fixture
def open_lake() -> Iterator[Callable[[Path], SmallLake]]:
    """Open a lake in a folder; opened again it is another process on the same lake."""
    opened: list[SmallLake] = []

    def opener(home: Path) -> SmallLake:
        opened.append(open_small_lake(home))
        return opened[-1]

    yield opener
    for lake in opened:
        lake.road.close()


@pytest.fixture
def small_lake(tmp_path: Path) -> Iterator[SmallLake]:
    """An empty lake on the local disk."""
    lake = open_small_lake(tmp_path)
    yield lake
    lake.road.close()
