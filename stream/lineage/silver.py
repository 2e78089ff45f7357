"""Silver's side of a trace: which files hold rows now, and those rows.

The ledger names the files that a slice wrote, and the receipts of compaction and replay lead from
each to the files that hold its rows now, so only those are opened. Where no receipt leads on
(another tool rewrote the table), every file of the slice's event times is looked into.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream.errors import StoreUnavailableError
from stream.lake.catalog import LakeTable
from stream.lake.history import SliceState
from stream.lake.layout import SilverKey
from stream.lake.sql import file_path, parquet_source
from stream.lineage.feed_ledger import FeedLedger
from stream.lineage.scope import Scope, explained
from stream.prove.objects import read_object

HASHED_BYTES = 64_000_000
"""Files above this are not hashed by a trace (`headrace prove` hashes all)."""
ADVICE = (
    "Restore it from the bucket's versions, or replay its slice: the same bytes get the same name."
)
US = 1_000_000


@dataclass(slots=True)
class FileNow:
    """A data file of a snapshot that holds rows of a slice. `says`: what was checked of it."""

    path: str
    origin: str
    is_good: bool
    says: str
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class SliceRows:
    """Rows of slices as Silver holds them now: the table's columns and `path`; their files."""

    rows: pa.Table
    files: list[FileNow]

    @property
    def is_whole(self) -> bool:
        """Whether every file could be read as the ledger recorded it."""
        return all(file.is_good for file in self.files)

    def of(self, slice_id: str) -> pa.Table:
        """The rows of one slice."""
        return self.rows.filter(pc.equal(self.rows["slice_id"], slice_id))


def read_slice_rows(
    scope: Scope,
    ledger: FeedLedger,
    states: Sequence[SliceState],
    sequence_numbers: Collection[str] | None = None,
) -> SliceRows:
    """The rows of slices in the table's current snapshot; files and counts are checked.

    Args: sequence_numbers: only rows of these records; then nothing can be counted.
    """
    table = ledger.table
    current = _listed(scope, table, states)
    wanted = {p for s in states for f in s.silver for p in _follow(ledger, f.path, current)}
    files = [_check_file(scope, ledger, path) for path in sorted(wanted)]
    rows = _read(scope, table, files, states, sequence_numbers)
    if sequence_numbers is None and all(file.is_good for file in files):
        expected = sum(state.silver_rows for state in states)
        if rows.num_rows < expected and current - wanted:
            more = [_check_file(scope, ledger, path) for path in sorted(current - wanted)]
            files += more
            rows = _read(scope, table, files, states, None)
            scope.note(f"{table.name}: a rewrite without a receipt; all files in range were read")
        _check_counts(scope, states, rows)
    _count_by_file(files, rows)
    return SliceRows(rows, [file for file in files if file.rows or not file.is_good])


def query_files(
    scope: Scope, table: LakeTable, paths: Sequence[str], build: Callable[[str], str],
    values: Sequence[Any] = (),
) -> pa.Table:  # fmt: skip
    """Run a statement over files; one that is gone is named as broken and left out.

    Args: build: SQL for the source of the rows (columns of the table, and `filename`).
    """
    left = [path for path in dict.fromkeys(paths) if path not in scope.bad_files]
    while True:
        addresses = [scope.store.uri(path) for path in left]
        source = parquet_source(addresses, table.arrow_schema, with_address=True)
        try:
            with explained():
                return scope.sql.execute(build(source), list(values)).to_arrow_table()
        except duckdb.Error as error:  # of a changed file, DuckDB says anything
            bad = {path for path in left if not _is_readable(scope, path)}
            if not bad:
                raise StoreUnavailableError(
                    f"cannot read table {table.name}: {str(error).splitlines()[0]} Ask again; if "
                    "it stays, `headrace prove` names the file."
                ) from None
            left = [path for path in left if path not in bad]


def plan_files(
    scope: Scope, table: LakeTable, between_us: tuple[int, int] | None, snapshot_id: int | None
) -> list[str]:
    """Paths of the files that may hold rows of an event range (µs, both ends included)."""
    if between_us is None:
        found = [address for address, _ in table.data_files(snapshot_id)]
    else:
        found = table.data_files_between(*between_us, snapshot_id)
    paths = [scope.store.relative(address) for address in found]
    scope.count_opened(paths)
    return paths


def typed(rows: pa.Table, table: LakeTable) -> pa.Table:
    """Columns in the table's own types: SQL widens prices."""
    kinds = {field.name: field.type for field in table.arrow_schema}
    columns = [
        column.cast(kinds.get(name, column.type))
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    ]
    return pa.table(columns, names=rows.column_names)


def _is_readable(scope: Scope, path: str) -> bool:
    """Whether an object is there and a Parquet file; else it is named."""
    data = scope.store.get(path)
    try:
        if data is not None:
            pq.read_table(io.BytesIO(data))
            return True
    except (pa.ArrowException, OSError):
        pass
    found = "no object" if data is None else f"{len(data)} bytes that are none"
    kind = "silver_missing" if data is None else "silver_changed"
    scope.break_link(kind, path, "a data file", found, ADVICE)
    scope.bad_files.add(path)
    return False


def _listed(scope: Scope, table: LakeTable, states: Sequence[SliceState]) -> set[str]:
    """Files of the current snapshot that may hold rows of these slices."""
    spans = [span for state in states for span in _spans(state)]
    if not spans:
        return set()
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    found = {scope.store.relative(uri) for uri in table.data_files_between(low, high)}
    scope.reads.silver_listed += len(found)
    return found


def _spans(state: SliceState) -> list[tuple[int, int]]:
    """Event ranges (µs) of a slice's rows: its own, and the days of what was redriven."""
    low, high = state.record.event_ns
    spans = [(low // 1000, high // 1000)] if state.record.silver_rows else []
    for landed in state.redriven:
        for item in landed.silver:
            with suppress(ValueError):
                day = SilverKey.parse(item.path).day
                start = datetime(day.year, day.month, day.day, tzinfo=UTC)
                spans.append((_us(start), _us(start + timedelta(days=1)) - 1))
    return spans


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * US


def _follow(ledger: FeedLedger, path: str, current: Collection[str]) -> set[str]:
    """The files of the snapshot that hold the rows of a file now, as receipts say."""
    if path in current:
        return {path}
    number = ledger.removed.get(path)
    if number is None:
        return set()
    day, found = _day(path), set[str]()
    for rewrite in ledger.entries[number].rewrites:
        if path in rewrite.removed:
            for item in rewrite.written:
                if _day(item.path) == day and item.path != path:
                    found |= _follow(ledger, item.path, current)
    return found


def _day(path: str) -> object:
    try:
        return SilverKey.parse(path).day
    except ValueError:
        return None


def _check_file(scope: Scope, ledger: FeedLedger, path: str) -> FileNow:
    """Hash a file against what the ledger says of it."""
    scope.count_opened([path])
    written = ledger.written.get(path)
    if written is None:
        is_there = _is_readable(scope, path)
        return FileNow(path, "a rewrite without a receipt", is_there, "no hash in the ledger")
    origin = f"{_WROTE.get(written.kind, written.kind)} {ledger.feed}#{written.number}"
    if written.reference.bytes > HASHED_BYTES:
        is_there = scope.store.exists(path) or _is_readable(scope, path)
        return FileNow(path, origin, is_there, "too large to hash here: `headrace prove` does")
    found = read_object(scope.store, written.reference, "silver", ADVICE)
    scope.reads.bytes_hashed += found.size
    scope.broken.extend(found.differences)
    if found.data is None:
        scope.bad_files.add(path)
        return FileNow(path, origin, is_good=False, says=found.differences[0].found)
    return FileNow(path, origin, is_good=True, says="hash equals the ledger's")


_WROTE = {"slices": "commit", "redrive": "redrive", "replay": "replay", "compact": "compaction"}


def _read(
    scope: Scope,
    table: LakeTable,
    files: Sequence[FileNow],
    states: Sequence[SliceState],
    sequence_numbers: Collection[str] | None,
) -> pa.Table:
    paths = [file.path for file in files if file.is_good]
    addresses = {file_path(scope.store.uri(path)): path for path in paths}
    ids: list[Any] = [[state.record.slice_id for state in states]]
    more = ""
    if sequence_numbers is not None:
        more = " AND sequence_number IN (SELECT unnest(?))"
        ids.append(list(sequence_numbers))
    rows = query_files(
        scope,
        table,
        paths,
        lambda source: (
            f"SELECT * FROM {source} WHERE slice_id IN (SELECT unnest(?)){more} "  # noqa: S608  # nosec B608: quoted files, bound values
            "ORDER BY slice_id, length(sequence_number), sequence_number, line_no"
        ),
        ids,
    )
    rows = typed(rows, table)
    names = [addresses[name] for name in rows["filename"].to_pylist()]
    return rows.drop_columns(["filename"]).append_column("path", pa.array(names, pa.string()))


def _check_counts(scope: Scope, states: Sequence[SliceState], rows: pa.Table) -> None:
    counted = {c["values"]: c["counts"] for c in pc.value_counts(rows["slice_id"]).to_pylist()}
    for state in states:
        slice_id = state.record.slice_id
        found = counted.get(slice_id, 0)
        if found != state.silver_rows:
            scope.break_link(
                "silver_rows",
                slice_id,
                f"{state.silver_rows} rows in Silver, as the ledger counted",
                f"{found} rows",
                f"`headrace prove {state.feed}` compares every slice; Bronze holds this one.",
            )


def _count_by_file(files: Sequence[FileNow], rows: pa.Table) -> None:
    grouped = rows.group_by(["path", "slice_id"]).aggregate([([], "count_all")]).to_pylist()
    by_path = {file.path: file for file in files}
    for item in grouped:
        by_path[item["path"]].rows[item["slice_id"]] = item["count_all"]
