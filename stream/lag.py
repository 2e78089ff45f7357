"""How far behind: per shard the distance to the stream's tip, per table its freshness.

Lag belongs to a shard: how long ago the first unread record arrived, how many records wait, and
how far the stream says the committed position lies behind its tip. Freshness belongs to a table:
how old the newest record is that a query can see. Both come from committed positions, so they
are true whatever the dataflow itself believes.

The backlog is counted by reading, up to a cap: beyond it the number is a lower bound. Each shard
costs at least one GetRecords call of the five a second that all its readers share.
Not here: watching (`cli`), metrics of a running flow (`telemetry`), what counts as too late
(each contract's `freshness_seconds`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError, ThrottledError
from stream.feeds import load_feed
from stream.feeds.contract import Contract
from stream.lake.connect import Lake, connect_lake
from stream.lake.entries import Entry, Head
from stream.sessions import market_state, open_ms_between
from stream.settings import Settings
from stream.slices import ShardPosition, ShardRef, Start
from stream.sources import ExpiredCursorError, ShardInfo, StreamReader
from stream.sources.extract_lanes import STREAM_PREFIX

CAP = 10_000
THREADS = 8
SILENT_MS = 600_000
MAX_EMPTY_READS = 20
"""An empty answer is not the tip; a shard without new records may give many of them."""


@dataclass(frozen=True, slots=True)
class ShardLag:
    """One shard.

    `behind_ms`: how long ago the first unread record arrived, 0 if none is waiting. `tip_ms`: what
    the stream says lies between that record and its newest. `backlog`: exact unless `is_capped`.
    """

    feed: str
    shard: str
    committed: str | None
    behind_ms: int
    tip_ms: int
    unread_since_ms: int | None
    backlog: int
    is_capped: bool
    is_ended: bool
    state: str

    @property
    def backlog_text(self) -> str:
        """For people: `10000+` beyond the cap."""
        return f"{self.backlog}+" if self.is_capped else str(self.backlog)


@dataclass(frozen=True, slots=True)
class TableLag:
    """One feed's Silver table: what a query sees now.

    `freshness_ms`: age of its newest record. `trading_ms`: how much of that the market was open,
    which is what counts against `target_ms`: a closed market is not lag. `is_silent`: an open one
    that has sent nothing for ten minutes, though its contract expects messages all the time.
    """

    feed: str
    freshness_ms: int | None
    trading_ms: int | None
    target_ms: int
    last_commit_ms: int | None
    last_commit_age_ms: int | None
    commit: int
    snapshots: int
    is_market_open: bool = True
    is_silent: bool = False
    gaps: tuple[str, ...] = ()

    @property
    def is_fresh(self) -> bool:
        """Within the contract's freshness target; false if nothing was ever committed."""
        return self.trading_ms is not None and self.trading_ms <= self.target_ms


@dataclass(frozen=True, slots=True)
class LagReport:
    """Lag of some feeds."""

    shards: tuple[ShardLag, ...]
    tables: tuple[TableLag, ...]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "shards": [asdict(shard) for shard in self.shards],
            "tables": [{**asdict(table), "is_fresh": table.is_fresh} for table in self.tables],
        }


def read_lag(
    settings: Settings,
    feeds: Sequence[str],
    *,
    open_reader: Callable[[Settings, str], StreamReader] | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> LagReport:
    """Lag and freshness of feeds now; a feed that was never started is left out.

    Raises: ConfigError (no such feed, none of them was started, no stream, no permission),
    StoreUnavailableError.
    """
    lake = connect_lake(settings)
    tables = set(lake.catalog.names())
    contracts = {feed: load_feed(feed) for feed in feeds}
    started = [feed for feed in feeds if feed in tables]
    if not started:
        raise ConfigError(
            f"none of {', '.join(feeds)} was started yet: `headrace run FEED` starts one."
        )
    opener = open_reader or _kinesis_reader
    reports = [
        feed_lag(lake, contracts[feed], opener(settings, feed), clock=clock) for feed in started
    ]
    return LagReport(
        tuple(shard for report in reports for shard in report.shards),
        tuple(table for report in reports for table in report.tables),
    )


def feed_lag(
    lake: Lake, contract: Contract, reader: StreamReader, *, clock: Clock = SYSTEM_CLOCK
) -> LagReport:
    """`read_lag` of one feed with a lake and a reader at hand."""
    table, ledger = lake.ledger(contract.feed)
    head, now = ledger.head(), now_ms(clock)
    head = replace(head, positions={**ledger.closed_positions(), **head.positions})
    read = partial(_shard_lag, contract.feed, reader, head, now)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="lag") as pool:
        shards = tuple(pool.map(read, reader.list_shards()))
    last = ledger.entries(after=head.number - 1)[-1:] if head.number else []
    lag = _table_lag(contract, head, last[0] if last else None, table.snapshot_count, now)
    return LagReport(shards, (lag,))


def table_lag(lake: Lake, contract: Contract, *, clock: Clock = SYSTEM_CLOCK) -> TableLag:
    """Freshness alone of a feed that was started: asks the lake and no stream.

    Raises: ConfigError (never started), StoreUnavailableError.
    """
    table, ledger = lake.ledger(contract.feed)
    head = ledger.head()
    last = ledger.entries(after=head.number - 1)[-1:] if head.number else []
    return _table_lag(
        contract, head, last[0] if last else None, table.snapshot_count, now_ms(clock)
    )


def _table_lag(
    contract: Contract, head: Head, last: Entry | None, snapshots: int, now: int
) -> TableLag:
    # An extract that lands now says nothing about how fresh the stream's rows are.
    streamed = [p for s, p in head.positions.items() if not s.startswith(STREAM_PREFIX)]
    newest = max((position.arrival_ms for position in streamed), default=0)
    trading = open_ms_between(contract.calendar, newest, now) if newest else None
    committed = last.committed_ms if last else None
    return TableLag(
        feed=contract.feed,
        freshness_ms=now - newest if newest else None,
        trading_ms=trading,
        target_ms=contract.freshness_seconds * 1000,
        last_commit_ms=committed,
        last_commit_age_ms=None if committed is None else now - committed,
        commit=head.number,
        snapshots=snapshots,
        is_market_open=market_state(contract.calendar, now).is_open,
        is_silent=contract.volume.min_per_minute > 0 and (trading or 0) >= SILENT_MS,
        gaps=tuple(
            f"{gap.shard}: {gap.reason} after {gap.after}" for gap in (last.gaps if last else ())
        ),
    )


def _shard_lag(feed: str, reader: StreamReader, head: Head, now: int, info: ShardInfo) -> ShardLag:
    """Read on from the committed position, as far as the cap."""
    position = head.positions.get(
        str(ShardRef(feed, str(reader.identity), info.shard)), ShardPosition(None)
    )
    if position.is_ended:
        waiting = _Waiting(0, False, 0, None)
    else:
        waiting = _count_unread(reader, info.shard, _start(position))
    since = waiting.unread_since_ms
    return ShardLag(
        feed=feed,
        shard=info.shard,
        committed=position.sequence_number,
        behind_ms=0 if since is None else max(0, now - since),
        tip_ms=waiting.tip_ms,
        unread_since_ms=since,
        backlog=waiting.records,
        is_capped=waiting.is_capped,
        is_ended=position.is_ended,
        state=_state(position, info, waiting.records),
    )


@dataclass(frozen=True, slots=True)
class _Waiting:
    records: int
    is_capped: bool
    tip_ms: int
    unread_since_ms: int | None


def _count_unread(reader: StreamReader, shard: str, start: Start) -> _Waiting:
    """Records behind a position. The first read takes one record: its distance is the lag."""
    cursor: str | None = reader.open_shard(shard, start)
    records, empty, limit = 0, 0, 1
    tip_ms, since = 0, None
    while cursor is not None and records < CAP and empty < MAX_EMPTY_READS:
        try:
            answer = reader.read(shard, cursor, limit)
        except (ExpiredCursorError, ThrottledError):
            break
        rows = int(answer.records.num_rows)
        if since is None:
            tip_ms = answer.behind_ms
            since = int(answer.records["ts_arrival_ns"][0].as_py()) // 1_000_000 if rows else None
        records, cursor, limit = records + rows, answer.cursor, CAP
        empty = 0 if rows else empty + 1
        if answer.behind_ms == 0:
            return _Waiting(records, False, tip_ms, since)
    return _Waiting(records, cursor is not None, tip_ms, since)


def _start(position: ShardPosition) -> Start:
    if position.sequence_number is not None:
        return Start("AFTER", sequence_number=position.sequence_number)
    return position.start or Start("TRIM_HORIZON")


def _state(position: ShardPosition, info: ShardInfo, backlog: int) -> str:
    """In a word: what the dataflow has to do with the shard."""
    if position.is_ended:
        return "ended"
    if backlog == 0:
        return "closed, read to its end" if info.is_closed else "at the tip"
    return "behind" if position.sequence_number is not None else "not started"


def _kinesis_reader(settings: Settings, feed: str) -> StreamReader:
    from stream.sources.choose import open_reader  # noqa: PLC0415 - 0.3 s of import

    return open_reader(settings, feed)
