"""Turn a slice's distinct rows into Silver data files: typed, sorted, one file a UTC day.

File names contain the hash of the bytes, and the bytes are a function of the slice and the code:
a replay writes the same files. Files are invisible until `lake.ledger` commits them.
Not here: what is a duplicate (`dedup`), compaction (batch maintenance).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream.dedup import Distinct, Times
from stream.failpoints import failpoint
from stream.feeds.contract import Contract
from stream.keyhash import Hashes, hash_rows
from stream.lake.catalog import LakeTable, StagedFile
from stream.lake.entries import ObjectRef
from stream.lake.layout import SilverKey
from stream.lake.store import Store, sha256
from stream.ordering import sort_rows
from stream.slices import ShardRef, Slice, pad_sequence

DAY_NS = 86_400_000_000_000
EPOCH = date(1970, 1, 1)
ROW_GROUP_ROWS = 1 << 20
FAR_FUTURE_NS = (1 << 63) - 1
"""After every event: times are 64-bit."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A built data file, not yet stored."""

    key: SilverKey
    data: bytes
    sha256: str
    rows: int
    footer: pq.FileMetaData

    def write(self, store: Store) -> tuple[ObjectRef, StagedFile]:
        """Make it durable. The name holds the content's hash: writing twice is harmless."""
        path = self.key.path
        store.put(path, self.data)
        reference = ObjectRef(path, self.sha256, len(self.data), self.rows)
        return reference, StagedFile(
            store.uri(path), len(self.data), self.rows, self.sha256, self.footer
        )


def share_texts(contract: Contract, rows: pa.Table) -> pa.Table:
    """The rows, with text of low cardinality as dictionaries where they are hashed or sorted by it.

    Hashing, filtering, sorting and taking then touch four bytes a value, which saves twice of what
    looking the values up costs. `slice_files` makes plain text of it again.
    """
    looked_at = {*contract.key, *contract.order}
    for number, column in enumerate(contract.columns):
        if column.encode and column.name in looked_at:
            rows = rows.set_column(number, column.name, rows[column.name].dictionary_encode())
    return rows


def _plain_texts(contract: Contract, rows: pa.Table) -> pa.Table:
    """The opposite: a dictionary's own order would show in the file's bytes."""
    for number, column in enumerate(contract.columns):
        if pa.types.is_dictionary(rows.schema.field(number).type):
            rows = rows.set_column(number, column.name, rows[column.name].cast(pa.string()))
    return rows


def write_silver(store: Store, file: DataFile) -> tuple[ObjectRef, StagedFile]:
    """`DataFile.write` for a file of a slice."""
    failpoint("silver-put")
    return file.write(store)


def silver_rows(contract: Contract, item: Slice, distinct: Distinct) -> pa.Table:
    """Distinct rows with clocks and lineage, in the order of the file."""
    rows = distinct.rows
    record_no = rows["record_no"].combine_chunks()
    event_ns = rows[contract.event_time].combine_chunks()
    lineage = {
        "ts_event": pa.array(event_ns.to_numpy() // 1000).cast(pa.timestamp("us")),
        "ts_arrival_ns": item.records["ts_arrival_ns"].take(record_no),
        "is_late": pa.array(distinct.is_late),
        "shard": _constant(item.shard.shard, rows.num_rows),
        "sequence_number": _by_record(item.records, record_no),
        "line_no": rows["line_no"],
        "slice_id": _constant(item.id, rows.num_rows),
    }
    table = rows.select([c.name for c in contract.columns])
    for name, column in lineage.items():
        table = table.append_column(name, column)

    return table.take(pa.array(sort_rows(rows, contract.order, contract.event_time)))


def build_files(
    rows: pa.Table,
    schema: pa.Schema,
    event_time: str,
    name: Callable[[date, str], SilverKey],
    dictionary: list[str],
) -> list[DataFile]:
    """Split sorted rows by UTC day and encode each day as Parquet, with Iceberg field ids.

    Args: schema: the table's Arrow schema. name: day and digest -> key. dictionary: columns
    worth a Parquet dictionary.
    """
    files = []
    for day, part in _by_day(rows, event_time):
        data, footer = encode(part, schema, dictionary)
        digest = sha256(data)
        files.append(DataFile(name(day, digest), data, digest, part.num_rows, footer))
    return files


def slice_files(
    contract: Contract, item: Slice, rows: pa.Table, schema: pa.Schema
) -> list[DataFile]:
    """The data files of one slice."""
    assert item.last is not None
    last = item.last
    return build_files(
        _plain_texts(contract, rows),
        schema,
        contract.event_time,
        lambda day, digest: SilverKey.of_slice(item.shard, last, day, digest),
        slice_dictionary(contract),
    )


def slice_dictionary(contract: Contract) -> list[str]:
    """Columns of a feed's table that are worth a Parquet dictionary."""
    encoded = [column.name for column in contract.columns if column.encode]
    return [*encoded, "shard", "sequence_number", "slice_id"]


def encode(
    rows: pa.Table, schema: pa.Schema, dictionary: list[str]
) -> tuple[bytes, pq.FileMetaData]:
    """Parquet bytes and footer. Decimals up to 18 digits are stored as INT64.

    Rows are sorted by symbol, so a page index and a bloom filter let a reader of one symbol skip
    the rest of a file, or all of it.
    """
    out = io.BytesIO()
    symbols = len(pc.unique(rows["symbol"])) if "symbol" in rows.column_names else 0
    writer = SilverWriter(out, schema, dictionary, distinct_symbols=symbols)
    writer.write(rows)
    footer = writer.close()
    return out.getvalue(), footer


class SilverWriter:
    """Writes one data file, in the rows' order; row groups of about a million rows."""

    def __init__(
        self,
        out: io.BytesIO | Path,
        schema: pa.Schema,
        dictionary: list[str],
        *,
        distinct_symbols: int,
    ) -> None:
        """`distinct_symbols`: sizes the bloom filter on `symbol`; 0 = none."""
        self._out = out
        self._schema = schema
        self._dictionary = dictionary
        self._bloom = _bloom_filters(distinct_symbols)
        self._waiting: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None
        self._collected: list[pq.FileMetaData] = []

    def write(self, rows: pa.Table) -> None:
        """Add rows; they must go on in the file's order."""
        columns = [_typed(rows[field.name].combine_chunks(), field) for field in self._schema]
        fields = [f.with_type(c.type) for f, c in zip(self._schema, columns, strict=True)]
        self._waiting.append(pa.Table.from_arrays(columns, schema=pa.schema(fields)))
        if sum(table.num_rows for table in self._waiting) >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> pq.FileMetaData:
        """End the file; returns its footer."""
        self._flush()
        assert self._writer is not None
        self._writer.close()
        if self._collected:
            return self._collected[0]
        source = self._out if isinstance(self._out, Path) else io.BytesIO(self._out.getvalue())
        return pq.read_metadata(source)

    def _flush(self) -> None:
        if self._waiting:
            rows = pa.concat_tables(self._waiting)
            self._waiting = []
            self._open(rows.schema).write_table(rows, row_group_size=ROW_GROUP_ROWS)

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._out,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=self._dictionary,
                data_page_size=1 << 20,
                store_schema=False,
                store_decimal_as_integer=True,
                write_page_index=True,
                bloom_filter_options=self._bloom,
                metadata_collector=self._collected,
            )
        return self._writer


class SilverKeys:
    """Reads committed key hashes back from Silver: the dedup state after a restart."""

    def __init__(
        self,
        contract: Contract,
        table: LakeTable,
        store: Store,
        ancestors: Callable[[ShardRef], frozenset[str]],
        *,
        is_visible: Callable[[pa.Table], pa.ChunkedArray] | None = None,
        may_hold: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`is_visible`: which rows count as committed: a replay must not see what came later.
        `may_hold`: whether a file (its path) can hold such a row.
        """
        self._is_visible = is_visible
        self._may_hold = may_hold
        self._contract = contract
        self._table = table
        self._store = store
        self._ancestors = ancestors

    def read(self, shard: ShardRef, before: str | None, since_ns: int) -> tuple[Hashes, Times]:
        """See `dedup.CommittedKeys`. Cost: one pass over the horizon's files of this feed."""
        ancestors = self._ancestors(shard)

        def is_wanted(rows: pa.Table) -> pa.ChunkedArray:
            # Late rows are not remembered while running, so a restart may not know them either.
            mine = _mine(rows, shard, ancestors, before)
            return pc.and_(mine, pc.invert(rows["is_late"]))

        return self.scan(since_ns, FAR_FUTURE_NS, is_wanted)

    def scan(
        self, since_ns: int, until_ns: int, is_wanted: Callable[[pa.Table], pa.ChunkedArray]
    ) -> tuple[Hashes, Times]:
        """Key hashes and event times of committed rows with `since_ns` <= event time < `until_ns`.

        Args: is_wanted: mask of rows (key, event time, slice_id, sequence_number, is_late).
        """
        self._table.refresh()
        files = self._table.data_files_between(since_ns // 1000, (until_ns - 1) // 1000)
        hashes, times = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        time = self._contract.event_time
        lineage = ("slice_id", "sequence_number", "is_late")
        columns = list(dict.fromkeys([*self._contract.key, time, *lineage]))
        paths = [path for uri in files if self._may_hold(path := self._store.relative(uri))]
        for data in self._store.get_many(paths):
            if data is None:
                continue  # prove names missing files; here they hold no key that can repeat
            rows = pq.read_table(io.BytesIO(data), columns=columns)
            is_within = pc.and_(
                pc.greater_equal(rows[time], since_ns), pc.less(rows[time], until_ns)
            )
            rows = rows.filter(pc.and_(is_within, is_wanted(rows)))
            if self._is_visible is not None:
                rows = rows.filter(self._is_visible(rows))
            hashes.append(hash_rows(rows, self._contract.key))
            times.append(rows[time].combine_chunks().to_numpy())
        return np.concatenate(hashes), np.concatenate(times)


def _mine(
    rows: pa.Table, shard: ShardRef, ancestors: frozenset[str], before: str | None
) -> pa.ChunkedArray:
    """Rows of this shard below `before`, and all rows of its ancestors and of the stream's
    earlier lives, which are over: a producer may send again to the new one.

    Rows of the shard at or above `before` were committed by another instance: counting them
    would make every row of the slice its own duplicate.
    """
    origin = pc.replace_substring_regex(rows["slice_id"], r"/[^/]*$", "")
    own = pc.and_(
        pc.equal(origin, str(shard)),
        pc.less(pc.utf8_lpad(rows["sequence_number"], 56, "0"), pad_sequence(before)),
    )
    life = f"{shard.stream.rpartition('.')[0]}."
    earlier = pc.and_not(pc.starts_with(origin, life), pc.starts_with(origin, f"{shard.stream}/"))
    family = pa.array([f"{shard.stream}/{name}" for name in sorted(ancestors)], pa.string())
    return pc.or_(pc.or_(own, earlier), pc.is_in(origin, family))


def _by_day(rows: pa.Table, event_time: str) -> Iterator[tuple[date, pa.Table]]:
    if not rows.num_rows:
        return
    days = rows[event_time].combine_chunks().to_numpy() // DAY_NS
    first, last = int(days.min()), int(days.max())
    if first == last:
        yield EPOCH + timedelta(days=first), rows
        return
    for day in np.unique(days):
        yield EPOCH + timedelta(days=int(day)), rows.filter(pa.array(days == day))


def _bloom_filters(distinct_symbols: int) -> dict[str, dict[str, float]]:
    """One on `symbol`, as large as its distinct values need (1.2 bytes each at 1 % false hits)."""
    return {"symbol": {"ndv": distinct_symbols, "fpp": 0.01}} if distinct_symbols else {}


def _constant(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([text]))


def _by_record(records: pa.RecordBatch, record_no: pa.Array) -> pa.DictionaryArray:
    """Sequence numbers, one per row, without copying text. Rows are in message order."""
    numbers = record_no.to_numpy()
    is_new = np.diff(numbers, prepend=-1) != 0
    values = records["sequence_number"].take(pa.array(numbers[is_new]))
    indices = pa.array((np.cumsum(is_new) - 1).astype(np.int32))
    if pc.any(pc.greater(records["sub_sequence"], 0)).as_py():  # aggregated: numbers repeat
        values = values.dictionary_encode()
        indices, values = values.indices.take(indices), values.dictionary
    return pa.DictionaryArray.from_arrays(indices, values)


def _typed(column: pa.Array, field: pa.Field) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return column
    return column.cast(field.type)
