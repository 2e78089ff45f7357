"""Lakes that everything has happened to, and questions about them."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import stream.lineage.source
import stream.redrive
from batch.extracts import ExtractRequest, Part
from batch.extracts.landing import land_extract
from batch.maintain.compact import compact_table
from batch.replay.from_extract import replay_extracts
from batch.replay.recorded import replay_recorded
from batch.replay.reprocess import BronzeSource
from stream.clock import ManualClock
from stream.decode import Decoded, decode_records
from stream.feeds import load_feed
from stream.feeds.contract import Rule
from stream.lake.connect import connect_lake
from stream.lineage import Options, Trace, trace_lake
from stream.query import run_query
from stream.redrive import redrive
from stream.settings import load_settings
from stream.slices import RECORD_SCHEMA

DAY_NS = 1_763_596_800_000_000_000


class Canned:
    """An extractor of given messages, one part per list."""

    source = "vendor"

    def __init__(self, parts: Sequence[Sequence[bytes]]) -> None:
        self.parts = parts

    def feed_of(self, dataset: str) -> str:
        return dataset

    def mapping_of(self, dataset: str) -> dict[str, object]:
        return {}

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        for lines in self.parts:
            yield Part(gzip.compress(b"\n".join(lines), mtime=0), "jsonl.gz", len(lines))


@dataclass
class TracedLake:
    """A `SmallLake` (`small`), what can happen to it, and `ask`."""

    small: Any
    trade: Callable[..., bytes]

    def ask(self, what: str, *conditions: str, **options: Any) -> Trace:
        chosen = Options(**{"limit": 0, **options})
        return trace_lake(self.small.settings, self.small.lake, what, conditions, chosen)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return run_query(self.small.settings, sql).to_pylist()

    def land_mixed(self, shard: str = "shardId-000000000000", first: int = 1) -> Any:
        """A slice with rows, packed ones, a duplicate, a heartbeat, rejects and an empty record."""
        at = self.small.arrival_ns
        one = [self.trade(first + n, at_ns=at + n) for n in range(6)]
        payloads = [
            one[0],
            b"\n".join([one[1], b"{broken", one[2]]) + b"\n",
            one[0],
            b'{"type":"heartbeat","product_id":"A"}',
            b"",
            b"\r\n".join([one[3], b"", one[4]]),
            orjson.dumps({**orjson.loads(one[5]), "venue": "new"}),
        ]
        item = self.small.slice(payloads, shard)
        self.small.land(item)
        return item

    def compact(self) -> None:
        compact_table(
            self.small.lake,
            "trades",
            region="us-east-1",
            last_day=date(2100, 1, 1),
            apply=True,
            clock=self.small.clock,
        )
        self.small.table.refresh()

    def replay(self, contract: Any = None) -> Any:
        report = replay_recorded(
            self.small.settings,
            self.small.lake,
            contract or self.small.contract,
            (0, 10**13),
            BronzeSource(self.small.lake.store),
            apply=True,
            clock=self.small.clock,
        )
        self.small.table.refresh()
        return report

    def redrive(self) -> Any:
        return redrive(self.small.lake, self.small.contract, dry_run=False)

    def land_extract(self, count: int = 30) -> Any:
        """Trades of a past day in two parts, as a backfill lands them."""
        lines = [self.trade(n, at_ns=DAY_NS + n * 1_000) for n in range(count)]
        request = ExtractRequest("trades", date(2025, 11, 20), date(2025, 11, 20))
        manifest = land_extract(
            self.small.lake.store,
            Canned([lines[: count // 2], lines[count // 2 :]]),
            request,
            "run-1",
            clock=self.small.clock,
        )
        replay_extracts(
            self.small.settings,
            self.small.lake,
            self.small.contract,
            [manifest],
            apply=True,
            clock=self.small.clock,
        )
        return manifest

    def refuses(self, trade_id: str) -> Any:
        """The contract, with a rule that refuses one trade."""

        def is_bad(rows: Any) -> pa.Array:
            return pc.equal(rows["trade_id"], trade_id)

        rules = (*self.small.contract.rules, Rule("bad_value", "refused", is_bad))
        return replace(self.small.contract, rules=rules)


def fixed_decoder(contract: Any, records: pa.RecordBatch, **options: Any) -> Decoded:
    """A decoder that knows venue "new"."""
    payloads = [
        p.replace(b'"venue":"new"', b'"venue":"sim"') for p in records["payload"].to_pylist()
    ]
    columns = [pa.array(payloads, pa.binary()), *records.columns[1:]]
    return decode_records(contract, pa.record_batch(columns, schema=RECORD_SCHEMA), **options)


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the decoder is a fixed one."""
    monkeypatch.setattr(stream.redrive, "decode_records", fixed_decoder)
    monkeypatch.setattr(stream.lineage.source, "decode_records", fixed_decoder)


@pytest.fixture
def traced(small_lake: Any, trade: Callable[..., bytes]) -> TracedLake:
    """An empty lake."""
    return TracedLake(small_lake, trade)


@pytest.fixture
def trace_in(open_lake: Any, trade: Callable[..., bytes]) -> Callable[[Any], TracedLake]:
    """Open a lake in a folder."""
    return lambda home: TracedLake(open_lake(home), trade)


@pytest.fixture
def traced_books(tmp_path: Path) -> Callable[..., Trace]:
    """Ask about a lake with one transaction of a person."""
    settings = load_settings(home=tmp_path, lake=f"file://{tmp_path}/lake")
    lake, clock = connect_lake(settings), ManualClock(DAY_NS + 10**13)
    message = {
        "_id": "t-1",
        "portfolio": "growth",
        "kind": "deposit",
        "quantity": {"$numberInt": "5"},
        "currency": "EUR",
        "account_holder": "Ada Lovelace",
        "executed_at": {"$date": {"$numberLong": str(DAY_NS // 10**6)}},
        "updated_at": {"$date": {"$numberLong": str(DAY_NS // 10**6)}},
    }
    request = ExtractRequest("transactions", date(2025, 11, 20), date(2025, 11, 20))
    parts = Canned([[orjson.dumps(message)]])
    manifest = land_extract(lake.store, parts, request, "run-1", clock=clock)
    contract = load_feed("transactions")
    replay_extracts(settings, lake, contract, [manifest], apply=True, clock=clock)

    def ask(what: str, *conditions: str, **options: Any) -> Trace:
        return trace_lake(settings, lake, what, conditions, Options(**options))

    return ask
