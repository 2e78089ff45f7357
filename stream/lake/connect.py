"""Open the lake that the settings describe: its store, its catalog, a feed's table and ledger."""

from __future__ import annotations

from dataclasses import dataclass

from stream.errors import ConfigError
from stream.feeds.contract import Contract
from stream.lake.catalog import LakeCatalog, LakeTable, open_catalog
from stream.lake.ledger import Ledger, open_ledger
from stream.lake.places import Places
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
    """Open store and catalog. Raises: ConfigError (folder, scheme, a zone that was left behind),
    StoreUnavailableError.
    """
    store = open_lake_store(settings)
    _check_strays(store)
    return Lake(store, connect_catalog(settings, settings.namespace, store.places))


def open_lake_store(settings: Settings) -> Store:
    """The lake's objects. Raises: ConfigError (folder, scheme). Does not touch the network."""
    endpoint = aws_endpoint("s3")
    return open_store(
        settings.lake, zones=settings.zones, region=settings.region, endpoint=endpoint
    )


def _check_strays(store: Store) -> None:
    """Refuse a lake that has objects of a zone where nothing looks for them any more."""
    for folder, found in store.find_strays().items():
        place = store.places.folders[folder]
        raise ConfigError(
            f"{place.setting}={place.root}, but {found} lies in the lake itself, where it would no "
            f"longer be found. Move {store.root}/{folder}/ to {place.root}/{folder}/ while nothing "
            f"runs (deploy/runbooks/move-a-zone.md), or unset {place.setting}."
        )


def connect_catalog(settings: Settings, namespace: str, places: Places) -> LakeCatalog:
    """The tables of one namespace of the lake. Raises: as `connect_lake`."""
    if settings.catalog == "sqlite":
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot create {settings.home}: {error.strerror}. Choose another HEADRACE_HOME."
            ) from error
    return open_catalog(
        settings.catalog,
        places=places,
        namespace=namespace,
        sqlite_path=str((settings.home / "catalog.db").absolute()),
        region=settings.region,
        endpoint=aws_endpoint("s3"),
    )
