"""Compact a table's small files: per UTC day, into few files in the table's sort order.

    small files of a day ─▶ digest ─▶ sort (DuckDB, spills to disk) ─▶ write ─▶ read back, digest
                                                                     equal? ─▶ ONE commit, receipt

Guarantees: nothing is published unless the written files, read back from the store, hold the same
multiset of rows as the inputs; the commit takes out exactly the inputs, so a second compaction of
the same files finds them gone and publishes nothing; appends meanwhile are kept. Memory: one input
file, and what DuckDB is allowed.
Not here: deleting the old files (`orphans`), which snapshots still need them (`expire`).
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batch.maintain.receipt import RowDigest
from stream.bars import ORDER, TABLE
from stream.clock import SYSTEM_CLOCK, Clock, to_utc
from stream.errors import FatalError
from stream.failpoints import failpoint
from stream.feeds import load_feeds
from stream.lake.catalog import LakeTable, StagedFile
from stream.lake.connect import Lake
from stream.lake.entries import Head, ObjectRef, Rewrite
from stream.lake.layout import SilverKey
from stream.lake.ledger import Change, Ledger
from stream.lake.sql import connect_sql, parquet_source, quote_text
from stream.lake.store import file_sha256
from stream.silver import SilverWriter, slice_dictionary

TARGET_BYTES = 512_000_000
SMALL_SHARE = 0.75
"""Files above this share of the target are left alone: rewriting them gains nothing."""
MEMORY_LIMIT = "1GB"
BATCH_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class TableFile:
    """A data file of the current snapshot."""

    address: str
    path: str
    day: date
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Group:
    """Files of one day that become one."""

    day: date
    files: tuple[TableFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class CompactReport:
    """One table's compaction, done or planned. `lost_races`: groups that another job had first."""

    table: str
    is_applied: bool
    days: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int | None
    rows: int
    lost_races: int = 0
    commits: tuple[int, ...] = ()
    seconds: float = 0.0

    def to_row(self) -> dict[str, object]:
        """For tables."""
        return {
            "table": self.table,
            "days": self.days,
            "files before": self.files_before,
            "files after": self.files_after,
            "bytes before": self.bytes_before,
            "bytes after": self.bytes_after,
            "rows": self.rows,
            "lost races": self.lost_races,
            "done": self.is_applied,
        }


Progress = Callable[[str, int, int], None]
"""Table, groups done, groups in all."""


def compact_table(
    lake: Lake,
    table: str,
    *,
    region: str,
    first_day: date | None = None,
    last_day: date | None = None,
    days: Collection[date] | None = None,
    target_bytes: int = TARGET_BYTES,
    apply: bool = False,
    progress: Progress = lambda _table, _done, _total: None,
    clock: Clock = SYSTEM_CLOCK,
) -> CompactReport:
    """Compact the small files of whole days.

    Args: first_day, last_day: UTC days, inclusive; by default all days before today, because
    today's still grows. days: only these of them. target_bytes: size of the files to be made.

    Raises: ConfigError (no such table), FatalError (the written files do not hold the rows of
    the inputs: nothing was published), CommitConflictError (lost 30 races in a row).
    """
    began = clock.monotonic()
    handle = lake.catalog.open(table)
    today = to_utc(clock.now_ns()).date()
    last = last_day or today - timedelta(days=1)
    files = [f for f in _files(lake, handle) if days is None or f.day in days]
    groups = plan_groups(files, first_day, last, target_bytes)
    compaction = _Compaction(lake, handle, region, clock)
    done: list[tuple[int, ObjectRef]] = []
    for number, group in enumerate(groups if apply else ()):
        progress(table, number, len(groups))
        published = compaction.run(group)
        done += [published] if published else []
    return CompactReport(
        table,
        apply,
        days=len({group.day for group in groups}),
        files_before=sum(len(group.files) for group in groups),
        files_after=len(done) if apply else len(groups),
        bytes_before=sum(group.bytes for group in groups),
        bytes_after=sum(reference.bytes for _, reference in done) if apply else None,
        rows=sum(group.rows for group in groups),
        lost_races=len(groups) - len(done) if apply else 0,
        commits=tuple(number for number, _ in done),
        seconds=round(clock.monotonic() - began, 3),
    )


def plan_groups(
    files: Sequence[TableFile], first_day: date | None, last_day: date, target_bytes: int
) -> list[Group]:
    """Which files become one: small ones of a day, in name order, up to the target. Pure."""
    days: dict[date, list[TableFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        is_wanted = (first_day is None or file.day >= first_day) and file.day <= last_day
        if is_wanted and file.bytes < target_bytes * SMALL_SHARE:
            days.setdefault(file.day, []).append(file)
    return [
        Group(day, tuple(some))
        for day in sorted(days)
        for some in _bins(days[day], target_bytes)
        if len(some) > 1
    ]


def _bins(files: Sequence[TableFile], target_bytes: int) -> Iterator[list[TableFile]]:
    some: list[TableFile] = []
    for file in files:
        if some and sum(f.bytes for f in some) + file.bytes > target_bytes:
            yield some
            some = []
        some.append(file)
    yield some


def _files(lake: Lake, table: LakeTable) -> list[TableFile]:
    return [
        TableFile(found.address, path, SilverKey.parse(path).day, found.bytes, found.rows)
        for found in table.files()
        for path in [lake.store.relative(found.address)]
    ]


class _Compaction:
    """Rewrites groups of one table."""

    def __init__(self, lake: Lake, table: LakeTable, region: str, clock: Clock) -> None:
        self._lake = lake
        self._table = table
        self._region = region
        contract = load_feeds().get(table.name)
        self._order = contract.order if contract else ORDER
        self._event_time = contract.event_time if contract else "ts_event_ns"
        self._dictionary = (
            slice_dictionary(contract) if contract else ["venue", "symbol", "revision"]
        )
        # The receipts of a table without a ledger (bars) make one of their own.
        self._ledger = Ledger(table.name, table, lake.store, clock)

    def run(self, group: Group) -> tuple[int, ObjectRef] | None:
        """Rewrite and publish; None if another job rewrote one of the files first."""
        schema = self._table.arrow_schema
        before = self.digest([file.path for file in group.files], schema)
        if before.rows != group.rows:
            raise FatalError(
                f"table {self._table.name}, {group.day}: the files hold {before.rows} rows, their "
                f"metadata says {group.rows}. Nothing was published: run `headrace prove`."
            )
        with tempfile.TemporaryDirectory(prefix="headrace-compact-") as folder:
            local = Path(folder) / "compacted.parquet"
            footer = self.write(group, schema, local)
            digest, size = file_sha256(local), local.stat().st_size
            key = SilverKey.of_rewrite(self._table.name, group.day, digest)
            self._lake.store.put_file(key.path, local)
        reference = ObjectRef(key.path, digest, size, before.rows)
        after = self.digest([key.path], schema)
        if after != before:
            raise FatalError(
                f"table {self._table.name}, {group.day}: {len(group.files)} files hold "
                f"{before.rows} rows with digest {before.hex}, {key.path} holds {after.rows} with "
                f"{after.hex}. Nothing was published and no file was touched. Report it: "
                "compaction lost, doubled or changed a row."
            )
        uri = self._lake.store.uri(key.path)
        staged = StagedFile(uri, size, before.rows, digest, footer)
        failpoint("compact-send")
        return self._publish(group, reference, staged, before)

    def digest(self, paths: Sequence[str], schema: pa.Schema) -> RowDigest:
        """The digest of files' rows as they are read back from the store."""
        digest = RowDigest()
        for path, data in zip(paths, self._lake.store.get_many(list(paths), 2), strict=True):
            if data is None:
                raise FatalError(
                    f"{path} is missing although the table's snapshot names it. Restore it from "
                    "the bucket's versions; nothing was published."
                )
            file = pq.ParquetFile(io.BytesIO(data), read_dictionary=self._dictionary)
            for batch in file.iter_batches(BATCH_ROWS):
                digest.add(pa.Table.from_batches([batch]), schema)
        return digest

    def write(self, group: Group, schema: pa.Schema, local: Path) -> pq.FileMetaData:
        """Sort the rows of a group into a local file; DuckDB spills what exceeds its memory."""
        source = parquet_source([file.address for file in group.files], schema)
        spill = quote_text(str(local.parent / "spill"))
        with closing(connect_sql(self._lake.store.root, self._region, threads=2)) as sql:
            sql.execute(f"SET memory_limit='{MEMORY_LIMIT}'; SET temp_directory={spill}")
            distinct = 0
            if "symbol" in schema.names:
                counting = f"SELECT count(DISTINCT symbol) FROM {source}"  # noqa: S608  # nosec B608: quoted files
                symbols = sql.execute(counting)
                distinct = (symbols.fetchone() or (1,))[0]
            rows = sql.execute(f"FROM {source} ORDER BY {self._order_by()}")
            writer = SilverWriter(local, schema, self._dictionary, distinct_symbols=distinct)
            for batch in rows.to_arrow_reader(BATCH_ROWS):
                writer.write(pa.Table.from_batches([batch]))
            return writer.close()

    def _order_by(self) -> str:
        """The order that a slice's file has (`ordering.sort_rows`)."""
        at = list(self._order).index(self._event_time)
        groups, ties = self._order[: at + 1], self._order[at + 1 :]
        texts = [f"{name}::VARCHAR" for name in ties]
        columns = [*groups, *(column for text in texts for column in (f"length({text})", text))]
        return ", ".join(f"{column} NULLS FIRST" for column in columns)

    def _publish(
        self, group: Group, reference: ObjectRef, staged: StagedFile, digest: RowDigest
    ) -> tuple[int, ObjectRef] | None:
        rewrite = Rewrite(
            removed=tuple(file.path for file in group.files),
            written=(reference,),
            rows=digest.rows,
            digest=digest.hex,
        )

        def plan(head: Head) -> Change | None:
            present = {address for address, _ in self._table.data_files()}
            if not all(file.address in present for file in group.files):
                return None
            entry = replace(self._ledger.entry(head, "compact"), rewrites=(rewrite,))
            return Change(entry, [staged], [file.address for file in group.files])

        entry = self._ledger.commit(plan)
        return (entry.number, reference) if entry else None


def tables_of(lake: Lake, wanted: Sequence[str] = ()) -> list[str]:
    """The tables that maintenance looks after: those named, or all of the lake's."""
    names = lake.catalog.names()
    return list(wanted) or [name for name in names if name in load_feeds() or name == TABLE]
