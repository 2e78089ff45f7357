"""Open the lake that the settings describe: its store, its catalog, a feed's table and ledger."""

from __future__ import annotations

from dataclasses import dataclass

from stream.errors import ConfigError
from stream.feeds.contract import Contract
from stream.lake.catalog import LakeCatalog, LakeTable, open_catalog
from stream.lake.ledger import Ledger, open_ledger
from stream.lake.store import Store, open_store
from stream.settings import Settings, aws_endpoint

LINEAGE_DOCS = {
    "ts_event": "Event time, UTC by contract; the table is partitioned by its day",
    "ts_arrival_ns": "When Kinesis took the record, ns since the epoch",
    "is_late": "Older than the dedup horizon at arrival: only the current view is distinct",
    "shard": "Kinesis shard",
    "sequence_number": "Kinesis sequence number of the record that held the message",
    "line_no": "Line of the message in its record, from 0",
    "slice_id": "The slice: its Bronze object holds the exact source bytes",
}


@dataclass(frozen=True, slots=True)
class Lake:
    """The lake as the settings describe it."""

    store: Store
    catalog: LakeCatalog

    def table(self, contract: Contract) -> LakeTable:
        """A feed's Silver table, created or widened as its contract says."""
        docs = {column.name: column.doc for column in contract.columns} | LINEAGE_DOCS
        return self.catalog.open_or_create(
            contract.feed, contract.silver_schema, contract.order, docs
        )

    def ledger(self, feed: str) -> tuple[LakeTable, Ledger]:
        """A feed's table and ledger. Raises: ConfigError if the feed was never started."""
        table = self.catalog.open(feed)
        return table, open_ledger(feed, table, self.store)


def connect_lake(settings: Settings) -> Lake:
    """Open store and catalog. Raises: ConfigError (folder, scheme), StoreUnavailableError."""
    store = open_store(settings.lake, region=settings.region, endpoint=aws_endpoint("s3"))
    return Lake(store, connect_catalog(settings, settings.namespace, store.root))


def connect_catalog(settings: Settings, namespace: str, root: str) -> LakeCatalog:
    """The tables of one namespace of the lake at `root`. Raises: as `connect_lake`."""
    if settings.catalog == "sqlite":
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot create {settings.home}: {error.strerror}. Choose another HEADRACE_HOME."
            ) from error
    return open_catalog(
        settings.catalog,
        lake=root,
        namespace=namespace,
        sqlite_path=str((settings.home / "catalog.db").absolute()),
        region=settings.region,
        endpoint=aws_endpoint("s3"),
    )
