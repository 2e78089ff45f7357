"""Iceberg tables: with its neighbours `catalog_…` the only use of pyiceberg.

A table here is copy-on-write, partitioned by the UTC day of `ts_event`, and never retried by
the library: with pyiceberg's default of four retries a second writer that holds the same slice
is silently accepted (6 rows instead of 3, measured). `append` makes one attempt and says
whether it landed; the loop around it is `ledger`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from sqlalchemy.exc import IntegrityError, OperationalError

from stream.clock import to_utc
from stream.errors import CommitConflictError, ConfigError
from stream.lake.catalog_faults import reachable
from stream.lake.catalog_io import file_io
from stream.lake.catalog_manifests import TieredAppend
from stream.lake.catalog_metadata import share_metadata
from stream.lake.catalog_pins import AssertProperties
from stream.lake.catalog_schema import day_partition, iceberg_schema, narrow, sort_order
from stream.lake.layout import derived_folder, silver_folder
from stream.lake.newest import NewestRead
from stream.lake.places import Places

PROPERTIES: Mapping[str, str] = {
    "format-version": "2",
    "commit.retry.num-retries": "0",
    "write.delete.isolation-level": "snapshot",
    "write.update.isolation-level": "serializable",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "50",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "write.metadata.metrics.column.sequence_number": "full",
    "write.parquet.compression-codec": "zstd",
}
"""Why each: `deploy/decisions/0002-our-own-commit-loop.md`."""
PIN_ATTEMPTS = 30


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A data file that is durable but not yet part of a table.

    `footer` is the Parquet metadata as written: reading it back from the store would cost
    2-3 ms a file at commit time.
    """

    uri: str
    bytes: int
    rows: int
    sha256: str
    footer: pq.FileMetaData


@dataclass(frozen=True, slots=True)
class TableFile:
    """A data file of a table, as its metadata describes it."""

    address: str
    bytes: int
    rows: int


class _Transaction(Transaction):
    """A transaction that computes its metadata once per staged update.

    pyiceberg 0.12 copies all metadata at each of about 15 accesses in a commit: 0.7 ms of CPU per
    retained snapshot (iceberg-python pull requests 3302 and 3784, unmerged). See also
    `catalog_metadata`.
    """

    _computed: tuple[int, TableMetadata] | None = None

    def __init__(self, table: Table, required: Mapping[str, str | None]) -> None:
        """`required`: properties without whose values the catalog refuses the commit. Not staged:
        that would compute the metadata once more.
        """
        super().__init__(table)
        if required:
            self._requirements = (AssertProperties(values=required),)  # type: ignore[assignment]

    @property
    def table_metadata(self) -> TableMetadata:
        if self._computed is None or self._computed[0] != len(self._updates):
            self._computed = (len(self._updates), super().table_metadata)
        return self._computed[1]


class LakeTable:
    """One Iceberg table at one point in time; `refresh` moves it to the newest."""

    def __init__(self, catalog: Catalog, table: Table, newest: NewestRead | None = None) -> None:
        """`newest`: what all handles of this process have read; a refresh is never older."""
        self._catalog = catalog
        self._table = table
        self._newest = newest or NewestRead()
        self._pins: dict[str, str] = {}
        self._explain_pin: Callable[[str | None], str] = str

    @property
    def name(self) -> str:
        return self._table.name()[-1]

    @property
    def iceberg(self) -> Table:
        """The library's table in the state last read: for `catalog_maintenance` alone."""
        return self._table

    @property
    def properties(self) -> Mapping[str, str]:
        return self._table.metadata.properties

    @property
    def snapshot_id(self) -> int | None:
        snapshot = self._table.metadata.current_snapshot()
        return snapshot.snapshot_id if snapshot else None

    @property
    def snapshot_count(self) -> int:
        return len(self._table.metadata.snapshots)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of data files, Iceberg field ids included."""
        return pa.schema([narrow(field) for field in schema_to_pyarrow(self._table.schema())])

    def refresh(self) -> None:
        """Load the newest metadata, never an older state than this process knows.

        Raises: StoreUnavailableError; ConfigError if another process has changed a property that
        this handle pinned.
        """

        def load() -> tuple[str, int]:
            with reachable(f"read table {self.name}"):
                metadata = self._table.refresh().metadata
            return _state(metadata)

        self._newest.read(self.name, load)
        for name, value in self._pins.items():
            if (found := self.properties.get(name)) != value:
                raise ConfigError(self._explain_pin(found))

    def pin(
        self,
        name: str,
        value: str,
        *,
        replaces: Collection[str | None],
        explain: Callable[[str | None], str],
    ) -> None:
        """Set a property and rely on it: once the table says otherwise, commits and refreshes
        through this handle are refused.

        Args: replaces: values that may be written over, None among them for a table that has
        none. explain: what to tell the user who finds another value.

        Raises: ConfigError: it has another value. CommitConflictError, StoreUnavailableError.
        """
        for _ in range(PIN_ATTEMPTS):
            found = self.properties.get(name)
            if found != value and found not in replaces:
                raise ConfigError(explain(found))
            if found == value or self._set(name, found, value):
                self._pins[name], self._explain_pin = value, explain
                return
            self.refresh()
        raise CommitConflictError(
            f"table {self.name}: {PIN_ATTEMPTS} times in a row another writer was first"
        )

    def _set(self, name: str, found: str | None, value: str) -> bool:
        """One attempt to change a property from what was found; False: another writer was first."""
        try:
            with (
                reachable(f"set {name} of table {self.name}"),
                _Transaction(self._table, {name: found}) as transaction,
            ):
                transaction.set_properties({name: value})
        except CommitFailedException:
            return False
        return True

    def append(
        self, files: Sequence[StagedFile], properties: Mapping[str, str], summary: Mapping[str, str]
    ) -> None:
        """Add files and set properties in one commit, one attempt, against the state last read.

        Makes a snapshot even for no files: a commit of properties alone carries no requirement
        on the table's state, so a stale writer could set positions back.

        Raises: CommitConflictError: another writer was first; nothing happened.
        StoreUnavailableError: the outcome is unknown, read back before a retry.
        """
        try:
            with (
                reachable(f"commit to table {self.name}"),
                _Transaction(self._table, self._pins) as transaction,
            ):
                transaction.set_properties(dict(properties))
                with TieredAppend(transaction, summary) as producer:
                    for file in files:
                        producer.append_data_file(self._data_file(file))
        except CommitFailedException as error:
            raise CommitConflictError(f"table {self.name}: {error}") from error
        self._note()

    def replace(
        self,
        remove: Sequence[str],
        add: Sequence[StagedFile],
        properties: Mapping[str, str],
        summary: Mapping[str, str],
    ) -> None:
        """Take files out, add files and set properties in one commit, one attempt (see `append`).

        Raises: CommitConflictError also when one of `remove` (addresses) is no longer in the
        table: another rewrite was first, and nothing happened.
        """
        try:
            with reachable(f"plan table {self.name}"):
                wanted = set(remove)
                tasks = self._table.scan().plan_files()
                old = {t.file.file_path: t.file for t in tasks if t.file.file_path in wanted}
            if len(old) < len(wanted):
                raise CommitConflictError(f"table {self.name}: another rewrite was first")
            with (
                reachable(f"commit to table {self.name}"),
                _Transaction(self._table, self._pins) as transaction,
            ):
                transaction.set_properties(dict(properties))
                with transaction.update_snapshot(dict(summary)).overwrite() as producer:
                    for data_file in old.values():
                        producer.delete_data_file(data_file)
                    for file in add:
                        producer.append_data_file(self._data_file(file))
        except (CommitFailedException, ValidationException) as error:
            raise CommitConflictError(f"table {self.name}: {error}") from error
        self._note()

    def _note(self) -> None:
        """What this handle has committed, every handle of the process knows."""
        self._newest.note(*_state(self._table.metadata))

    def files(self) -> list[TableFile]:
        """Every data file of the current snapshot."""
        with reachable(f"plan table {self.name}"):
            return [
                TableFile(t.file.file_path, t.file.file_size_in_bytes, t.file.record_count)
                for t in self._table.scan().plan_files()
            ]

    def data_files(self, snapshot_id: int | None = None) -> list[tuple[str, int]]:
        """Address and rows of every data file of a snapshot; None: of the current one."""
        with reachable(f"plan table {self.name}"):
            return [
                (task.file.file_path, task.file.record_count)
                for task in self._table.scan(snapshot_id=snapshot_id).plan_files()
            ]

    def data_files_between(
        self, first_us: int, last_us: int, snapshot_id: int | None = None
    ) -> list[str]:
        """Addresses of the files that may hold rows with `ts_event` in [first, last] (µs, UTC)."""
        low, high = _iso(first_us), _iso(last_us)
        wanted = f"ts_event >= '{low}' and ts_event <= '{high}'"
        with reachable(f"plan table {self.name}"):
            scan = self._table.scan(row_filter=wanted, snapshot_id=snapshot_id)
            return [task.file.file_path for task in scan.plan_files()]

    def find_snapshot(self, name: str, value: str) -> int | None:
        """The newest retained snapshot whose summary has this property; None if none has."""
        for snapshot in reversed(self._table.metadata.snapshots):
            if snapshot.summary and snapshot.summary.get(name) == value:
                return snapshot.snapshot_id
        return None

    def has_snapshot(self, snapshot_id: int) -> bool:
        """Whether a snapshot is still retained."""
        return self._table.metadata.snapshot_by_id(snapshot_id) is not None

    def _data_file(self, file: StagedFile) -> DataFile:
        metadata = self._table.metadata
        schema, spec = metadata.schema(), metadata.spec()
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=file.footer,
            stats_columns=compute_statistics_plan(schema, metadata.properties),
            parquet_column_mapping=parquet_path_to_id_mapping(schema),
        )
        partition: Record = statistics.partition(spec, schema)
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=file.uri,
            file_format=FileFormat.PARQUET,
            partition=partition,
            file_size_in_bytes=file.bytes,
            sort_order_id=None,
            spec_id=metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )


class LakeCatalog:
    """The tables of one namespace."""

    def __init__(self, catalog: Catalog, namespace: str, places: Places) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._places = places
        self._newest = NewestRead()

    def open(self, name: str) -> LakeTable:
        """An existing table. Raises: ConfigError if there is none."""
        with reachable(f"load table {self._namespace}.{name}"):
            try:
                table = self._catalog.load_table((self._namespace, name))
            except NoSuchTableError:
                raise ConfigError(
                    f"table {self._namespace}.{name} does not exist: `headrace run` of its feed "
                    "creates it at its first start."
                ) from None
        return self._handle(table)

    def open_or_create(
        self, name: str, schema: pa.Schema, order: Sequence[str], docs: Mapping[str, str]
    ) -> LakeTable:
        """The table, created or given the columns that it lacks (additive evolution only)."""
        iceberg = iceberg_schema(schema, docs)
        with reachable(f"create table {self._namespace}.{name}"):
            table = self._load_or_create(name, iceberg, order)
            if set(iceberg.column_names) - set(table.schema().column_names):
                with table.update_schema() as update:
                    update.union_by_name(iceberg)
        return self._handle(table)

    def overwrite(self, name: str, rows: pa.Table) -> None:
        """Make a small table hold exactly these rows, created or widened if need be."""
        identifier, iceberg = (self._namespace, name), iceberg_schema(rows.schema, {})
        with reachable(f"write table {self._namespace}.{name}"):
            with suppress(NamespaceAlreadyExistsError, IntegrityError):
                self._catalog.create_namespace((self._namespace,))
            location = self._places.uri(derived_folder(self._namespace, name))
            table = self._catalog.create_table_if_not_exists(identifier, iceberg, location=location)
            if table.location() != location:
                raise ConfigError(
                    f"table {self._namespace}.{name} lies at {table.location()}, the settings say "
                    f"{location}. Its content is made anew each time: drop it, and start again "
                    "(deploy/runbooks/move-a-zone.md)."
                )
            if set(iceberg.column_names) - set(table.schema().column_names):
                with table.update_schema() as update:
                    update.union_by_name(iceberg)
            if any(table.scan().plan_files()):
                table.overwrite(rows)
            else:  # an overwrite of nothing is a warning
                table.append(rows)

    def names(self) -> list[str]:
        """The tables that exist."""
        with reachable("list tables"):
            if not self._catalog.namespace_exists((self._namespace,)):
                return []
            return sorted(name[-1] for name in self._catalog.list_tables((self._namespace,)))

    def _handle(self, table: Table) -> LakeTable:
        """A handle on a table just loaded, loaded again if that was an older state."""
        handle = LakeTable(self._catalog, table, self._newest)
        uuid, number = _state(table.metadata)
        if self._newest.note(uuid, number) > number:
            handle.refresh()
        return handle

    def _load_or_create(self, name: str, schema: Schema, order: Sequence[str]) -> Table:
        identifier = (self._namespace, name)
        try:
            return self._catalog.load_table(identifier)
        except NoSuchTableError:
            pass
        with suppress(NamespaceAlreadyExistsError, IntegrityError):  # or by another process
            self._catalog.create_namespace((self._namespace,))
        try:
            return self._catalog.create_table(
                identifier,
                schema=schema,
                location=self._places.uri(silver_folder(name)),
                partition_spec=day_partition(schema),
                sort_order=sort_order(schema, order),
                properties=dict(PROPERTIES),
            )
        except TableAlreadyExistsError:  # another process was first
            return self._catalog.load_table(identifier)


def open_catalog(
    kind: str,
    *,
    places: Places,
    namespace: str,
    sqlite_path: str,
    region: str,
    endpoint: str | None,
) -> LakeCatalog:
    """The catalog: SQLite beside the local platform, or AWS Glue.

    Raises: ConfigError if its database cannot be opened.
    """
    share_metadata()
    lake, is_on_s3 = places.home.root, any(root.startswith("s3") for root in places.roots)
    files = file_io(region, endpoint) if is_on_s3 else {}
    if kind == "glue":
        catalog = load_catalog(
            "headrace", type="glue", warehouse=lake, **{"glue.region": region}, **files
        )
    else:
        uri = f"sqlite:///{sqlite_path}"
        with reachable(f"open {uri}"):
            catalog = _open_sqlite(uri, warehouse=lake, **files)
    return LakeCatalog(catalog, namespace, places)


def _open_sqlite(uri: str, **properties: str) -> Catalog:
    """Open or create. Two processes that start at once both find no tables and both create
    them; the one that is second sees them when it looks again.
    """
    for _ in range(5):
        try:
            return load_catalog("headrace", type="sql", uri=uri, **properties)
        except OperationalError as error:
            if "already exists" not in str(error):
                raise
    return load_catalog("headrace", type="sql", uri=uri, **properties)


def _state(metadata: TableMetadata) -> tuple[str, int]:
    """Which table it is, and a number that grows with its snapshots (version 1 had none)."""
    return str(metadata.table_uuid), int(getattr(metadata, "last_sequence_number", 0))


def _iso(microseconds: int) -> str:
    return to_utc(microseconds * 1000).replace(tzinfo=None).isoformat(timespec="microseconds")
