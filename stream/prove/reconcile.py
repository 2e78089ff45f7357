"""Run a proof: walk the ledger, check every slice of the range, then the Silver snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta

from stream.clock import to_utc
from stream.errors import ConfigError, RetryableError
from stream.feeds import load_feed
from stream.feeds.contract import Contract
from stream.lake.connect import Lake, connect_lake
from stream.lake.entries import Entry, GapRecord, Head, Redriven, SliceRecord
from stream.lake.layout import BronzeKey
from stream.lake.sql import connect_sql
from stream.prove.chain import Chain
from stream.prove.continuity import Continuity
from stream.prove.deep import check_decoder
from stream.prove.objects import BronzeListing, Found, check_bronze, check_quarantine
from stream.prove.proof import Difference, Proof
from stream.prove.silver import Expected, SilverCheck
from stream.settings import Settings, aws_endpoint
from stream.slices import ShardRef
from stream.sources.ledger import ExtractParts, read_recorded

MARGIN_MS = 3_600_000
"""How long before a range's start an entry may have been committed and still hold a slice of it
(our clock against the stream's), or rows that lie beside it."""

Progress = Callable[[str, int], None]


def prove(
    settings: Settings,
    feed: str,
    from_ms: int | None = None,
    to_ms: int | None = None,
    *,
    threads: int = 8,
    deep: bool = False,
    parents: Mapping[str, tuple[str, ...]] | None = None,
    progress: Progress = lambda _stage, _done: None,
) -> Proof:
    """Reconcile a feed's Bronze, quarantine and Silver with its ledger.

    Args: from_ms, to_ms: arrival times; slices that intersect [from, to) are checked. deep:
    decode Bronze again and compare counts. parents: shard -> parents (`ShardRef` texts), to
    check the order across reshards; None asks the stream. progress: called with a stage and how
    many items are done.

    Raises: ConfigError (no such feed, never started), StoreUnavailableError. A difference is
    not an error: see `Proof.is_equal`.
    """
    lake, contract = connect_lake(settings), load_feed(feed)
    unread = None
    if parents is None:
        parents, unread = _parents(settings, feed)
    proof = prove_lake(
        lake,
        contract,
        from_ms,
        to_ms,
        region=settings.region,
        threads=threads,
        deep=deep,
        parents=parents,
        progress=progress,
    )
    if unread:
        proof.note("parents_not_checked", settings.stream_name(feed), unread)
    return proof


def _parents(settings: Settings, feed: str) -> tuple[dict[str, tuple[str, ...]], str | None]:
    """Shard -> parents from the stream's shard list; empty, and why, if it cannot be read."""
    if aws_endpoint("kinesis") is None and settings.aws != "account":
        return {}, None  # a lake without a stream beside it
    # Here, because the SDK costs 0.3 s that a proof of a lake alone need not pay.
    from stream.sources.choose import open_reader  # noqa: PLC0415

    reader = open_reader(settings, feed)
    try:
        shards, stream = reader.list_shards(), str(reader.identity)
    except (ConfigError, RetryableError) as error:
        return {}, f"the order of parents and children was not checked: {error}"
    return {
        str(ShardRef(feed, stream, shard.shard)): tuple(
            str(ShardRef(feed, stream, parent)) for parent in shard.parents
        )
        for shard in shards
    }, None


def prove_lake(
    lake: Lake,
    contract: Contract,
    from_ms: int | None = None,
    to_ms: int | None = None,
    *,
    region: str = "us-east-1",
    threads: int = 8,
    deep: bool = False,
    parents: Mapping[str, tuple[str, ...]] | None = None,
    progress: Progress = lambda _stage, _done: None,
) -> Proof:
    """`prove` for a lake and a contract at hand."""
    table, ledger = lake.ledger(contract.feed)
    proof = Proof(contract.feed, from_ms, to_ms, is_deep=deep)
    head = ledger.head()  # first: a shard that is closed in between is then in both
    head = replace(head, positions={**ledger.closed_positions(), **head.positions})
    run = _Run(
        lake,
        contract,
        head,
        proof,
        threads=threads,
        deep=deep,
        progress=progress,
    )
    run.walk_ledger(from_ms, to_ms, parents or {})
    run.check_listing(from_ms, to_ms)
    with closing(connect_sql(lake.store.root, region, threads=threads, memory_limit="1GB")) as sql:
        addresses = [address for address, _ in table.data_files()]
        progress("silver files", len(addresses))
        check = SilverCheck(
            contract, table.arrow_schema, addresses, store=lake.store, sql=sql, proof=proof
        )
        is_range = from_ms is not None or to_ms is not None
        check.check(run.expected, is_range=is_range, threads=threads)
    return proof


@dataclass(frozen=True, slots=True)
class _Range:
    """Arrival times [from, to)."""

    from_ms: int | None
    to_ms: int | None

    def holds(self, record: SliceRecord) -> bool:
        """Whether a slice's arrival range intersects; an empty one is only in the whole."""
        if not record.rows:
            return self.from_ms is None and self.to_ms is None
        after = self.from_ms is None or record.arrival_ns[1] >= self.from_ms * 1_000_000
        return after and (self.to_ms is None or record.arrival_ns[0] < self.to_ms * 1_000_000)


class _Run:
    """The state of one proof."""

    def __init__(
        self,
        lake: Lake,
        contract: Contract,
        head: Head,
        proof: Proof,
        *,
        threads: int,
        deep: bool,
        progress: Progress,
    ) -> None:
        self._lake = lake
        self._contract = contract
        self._head = head
        self._proof = proof
        self._threads = threads
        self._deep = deep
        self._progress = progress
        self._bronze: set[str] = set()
        self._gaps: list[GapRecord] = []
        self._shards: set[str] = set()
        self._landed: dict[str, list[Redriven]] = {}
        self._replayed: dict[str, SliceRecord] = {}
        self._dropped: dict[str, int] = {}
        self._parts = ExtractParts(lake.store)
        self.expected = Expected()

    def walk_ledger(
        self, from_ms: int | None, to_ms: int | None, parents: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Check the chain, the continuity of every shard and the objects of every slice."""
        chain = Chain(self._contract.feed, self._head, self._lake.store, self._proof)
        continuity = Continuity(self._head, self._proof)
        since = 0 if from_ms is None else from_ms - MARGIN_MS
        wanted = _Range(from_ms, to_ms)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="prove") as pool:
            for entry in chain.walk(since):
                continuity.check(entry)
                records = self._count_entry(entry, wanted)
                for checked in _in_batches(pool, self._check_slice, records, self._threads * 4):
                    self._count_objects(checked)
                self._progress("slices", self._proof.totals.slices)
        if from_ms is None and chain.is_whole:
            continuity.check_start()
            continuity.check_parents(parents)
        if not chain.is_whole:
            self._proof.note(
                "not_checked",
                "what the unreadable ledger entries hold",
                "holes beside them, unknown slices in Silver and unknown Bronze objects",
            )
        self.expected.is_whole = chain.is_whole

    def check_listing(self, from_ms: int | None, to_ms: int | None) -> None:
        """Bronze objects that the ledger does not know; pointless if it was not read whole."""
        if not self.expected.is_whole:
            return
        listing = BronzeListing(self._lake.store, self._head, self._bronze, self._proof, self._gaps)
        listing.check(self._prefixes(from_ms, to_ms))
        self._progress("Bronze listing", len(self._bronze))

    def _prefixes(self, from_ms: int | None, to_ms: int | None) -> Iterator[str]:
        feed = self._contract.feed
        if from_ms is None or self.expected.arrival_ns is None:
            yield BronzeKey.prefix(feed)
            return
        newest = self.expected.arrival_ns[1] if to_ms is None else to_ms * 1_000_000
        hour = to_utc(from_ms * 1_000_000).replace(minute=0, second=0, microsecond=0)
        while hour.timestamp() * 1e9 <= newest:
            yield BronzeKey.prefix(feed, hour)
            hour += timedelta(hours=1)

    def _count_entry(self, entry: Entry, wanted: _Range) -> list[SliceRecord]:
        """Add an entry's slices, as they are now, to the totals and to what Silver must hold.

        Newest first: a replay's records are met before those that they supersede, and what was
        redriven of a slice counts only if no replay came after it.
        """
        self._note_changes(entry)
        records = [] if entry.kind == "replay" else [self._now(r) for r in entry.slices]
        self._bronze |= {record.bronze.path for record in records if record.bronze}
        in_range = [record for record in records if wanted.holds(record)]
        self.expected.outside |= {r.slice_id for r in records if not wanted.holds(r)}
        for record in in_range:
            self._count_slice(record)
        self._gaps += entry.gaps
        for gap in entry.gaps:
            self._proof.note(
                "gap",
                str(gap.shard),
                f"{gap.reason}: after {gap.after or 'the start'}, first kept {gap.first_kept}",
            )
        self._proof.totals.commits += bool(in_range)
        return in_range

    def _note_changes(self, entry: Entry) -> None:
        """Keep what an entry changed of older slices, for when they are met."""
        for landed in entry.redriven:
            if landed.slice_id not in self._replayed:
                self._landed.setdefault(landed.slice_id, []).append(landed)
        for slice_id, rows in entry.dropped.items():
            if slice_id not in self._replayed:
                self._dropped[slice_id] = self._dropped.get(slice_id, 0) + rows
        for rewrite in entry.rewrites:
            self.expected.rewritten |= {item.path: item for item in rewrite.written}
        if entry.kind == "replay":
            for record in entry.slices:
                self._replayed.setdefault(record.slice_id, record)

    def _now(self, record: SliceRecord) -> SliceRecord:
        return self._replayed.get(record.slice_id, record)

    def _count_slice(self, record: SliceRecord) -> None:
        totals = self._proof.totals
        self._shards.add(str(record.shard))
        totals.shards = len(self._shards)
        totals.slices += 1
        totals.records += record.rows
        totals.messages += record.messages
        totals.duplicates += record.duplicates
        totals.ignored += sum(record.ignored.values())
        if record.rows:
            self.expected.add(record.slice_id, record.silver_rows, record.silver)
            self.expected.cover(record.arrival_ns)
            self.expected.rows[record.slice_id] -= self._dropped.pop(record.slice_id, 0)
        for landed in self._landed.pop(record.slice_id, []):
            self.expected.add(landed.slice_id, landed.silver_rows, landed.silver)
            totals.redriven += landed.messages
            totals.duplicates += landed.duplicates

    def _check_slice(self, record: SliceRecord) -> _Checked:
        """One slice's objects; runs in a thread."""
        bronze = check_bronze(self._lake.store, self._parts, record)
        quarantine = check_quarantine(self._lake.store, record)
        decoder: list[Difference] = []
        if self._deep and bronze.data is not None:
            decoder = check_decoder(
                self._contract, record, read_recorded(record, bronze.data, self._parts)
            )
        bronze.data = quarantine.data = None  # the next batch must not find this one in memory
        return _Checked(bronze, quarantine, decoder)

    def _count_objects(self, checked: _Checked) -> None:
        totals = self._proof.totals
        totals.bronze_objects += checked.bronze.rows > 0
        totals.bronze_rows += checked.bronze.rows
        totals.quarantined += checked.quarantine.rows
        totals.bytes_hashed += checked.bronze.size + checked.quarantine.size
        for found in (checked.bronze, checked.quarantine):
            self._proof.differences.extend(found.differences)
        self._proof.differences.extend(checked.decoder)


@dataclass(slots=True)
class _Checked:
    """What the objects of one slice showed."""

    bronze: Found
    quarantine: Found
    decoder: list[Difference]


def _in_batches(
    pool: ThreadPoolExecutor,
    check: Callable[[SliceRecord], _Checked],
    records: Sequence[SliceRecord],
    size: int,
) -> Iterator[_Checked]:
    """Checks in parallel, a bounded number ahead."""
    for at in range(0, len(records), size):
        yield from pool.map(check, records[at : at + size])
