"""What each kind of service may do to the lake: prefixes of its objects, tables of its catalog.

Prefixes come from `stream.lake.layout`. Calls to Glue are those of pyiceberg's Glue catalog as
`stream.lake.catalog` uses it: tests/infra/test_lake_grants.py records them. Those of a Gold build
are dbt-athena's and Athena's own, which runs with the caller's rights.

Whoever reads a bucket may list all of it: S3 answers 403 instead of 404 for an object that is not
there to a caller whose right to list is bound to a prefix, and the runtime asks for such objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import pulumi

from components.bucket import Zone
from components.lake_places import (
    CI,
    CLOSED,
    DBT_ARTIFACTS,
    GOLD,
    LEDGER,
    QUARANTINE,
    QUERY_RESULTS,
    SILVER,
)
from grants import Grant, delete_objects, use_key, write_objects
from stream.bars import TABLE as BARS_TABLE
from stream.feeds import load_feed, load_feeds
from stream.lake.layout import (
    BronzeKey,
    ClosedShardKey,
    LedgerKey,
    QuarantineKey,
    SilverKey,
)
from stream.slices import ShardRef

if TYPE_CHECKING:
    from components.data_lake import DataLake

GLUE_READ = ("glue:GetDatabase", "glue:GetTable", "glue:GetTables")
GLUE_WRITE = ("glue:CreateTable", "glue:UpdateTable")
GLUE_FIRST = ("glue:CreateDatabase",)
"""pyiceberg asks for the namespace before it makes a table, and takes "it exists" for an answer."""
GLUE_STREAM = ("glue:GetDatabase", "glue:GetTable", *GLUE_WRITE, *GLUE_FIRST)
GLUE_BUILD = (
    *GLUE_READ,
    *GLUE_WRITE,
    *GLUE_FIRST,
    "glue:BatchDeletePartition",
    "glue:BatchGetPartition",
    "glue:DeleteTable",
    "glue:DeleteTableVersion",
    "glue:GetDatabases",
    "glue:GetPartition",
    "glue:GetPartitions",
    "glue:GetTableVersions",
)
"""dbt-athena's own calls, and those that Athena makes for its statements."""
ATHENA = (
    "athena:GetQueryExecution",
    "athena:GetQueryResults",
    "athena:GetWorkGroup",
    "athena:StartQueryExecution",
    "athena:StopQueryExecution",
)
_SOME_DAY = date(2000, 1, 1)
Table = tuple[str, str]
"""Database and table, as they stand in an ARN."""


def table_folder(name: str) -> str:
    """Where a table of Silver lies: data, and metadata below it."""
    return SilverKey(name, _SOME_DAY, "x", "0" * 16).path.partition("year=")[0]


def quarantine_folder(feed: str) -> str:
    """Where a feed's rejects lie."""
    return QuarantineKey.of(ShardRef(feed, "-", "-"), "0", 0, "").path.partition("year=")[0]


class LakeGrants:
    """Grants over one lake."""

    def __init__(self, lake: DataLake, key_arn: pulumi.Input[str]) -> None:
        self._lake, self._key = lake, use_key(key_arn, sid="UseDataKey")

    def read(self, *, with_bronze: bool) -> tuple[Grant, ...]:
        """Objects of the zones and the whole catalog."""
        lake = self._lake
        zones = [lake.silver, lake.gold, *([lake.bronze] if with_bronze else [])]
        return (
            *_read("Lake", zones),
            self._glue("ReadCatalog", GLUE_READ, *((name, "*") for name in self._databases())),
            self._key,
        )

    def stream(self, feed: str) -> tuple[Grant, ...]:
        """One feed's own prefixes and tables."""
        lake, tables = self._lake, _tables(feed)
        folders = [
            *map(table_folder, tables),
            quarantine_folder(feed),
            LedgerKey.prefix(feed),
            ClosedShardKey.prefix(feed),
        ]
        metadata = [f"{table_folder(name)}metadata/" for name in tables]
        silver = lake.databases["silver"]
        return (
            _write("Bronze", lake.bronze, [BronzeKey.prefix(feed)]),
            _write("Silver", lake.silver, folders),
            _list("Lake", [lake.bronze, lake.silver]),
            # A commit drops metadata files that are older than the table keeps.
            *delete_objects("SilverMetadata", lake.silver.arn, metadata),
            self._glue(
                "OwnTables",
                GLUE_STREAM,
                *((silver, table) for table in tables),
            ),
            *self._compare_keys(feed),
            self._key,
        )

    def _compare_keys(self, feed: str) -> tuple[Grant, ...]:
        """Who masks asks every masked table which key it knows (`pii_key.check_key`)."""
        if not load_feed(feed).pii_columns:
            return ()
        lake, silver = self._lake, self._lake.databases["silver"]
        masked = [name for name, contract in load_feeds().items() if contract.pii_columns]
        metadata = tuple(
            pulumi.Output.concat(lake.silver.arn, f"/{table_folder(name)}metadata/*")
            for name in masked
        )
        return (
            self._glue("TablesByName", ("glue:GetTables",), (silver, "*")),
            self._glue("MaskedTables", ("glue:GetTable",), *((silver, name) for name in masked)),
            Grant("MaskedTablesRead", ("s3:GetObject",), metadata),
        )

    def maintain(self) -> tuple[Grant, ...]:
        """Compaction, expiry, orphans, retention. Bronze is read, for what a ledger names."""
        lake = self._lake
        folders = [SILVER, QUARANTINE, LEDGER, CLOSED]
        return (
            *_read("Bronze", [lake.bronze]),
            _write("Silver", lake.silver, folders),
            _list("Silver", [lake.silver]),
            *delete_objects("Silver", lake.silver.arn, folders),
            self._glue(
                "SilverTables",
                (*GLUE_READ, "glue:UpdateTable"),
                (lake.databases["silver"], "*"),
            ),
            self._key,
        )

    def gold(self) -> tuple[Grant, ...]:
        """Read Silver, write Gold and its record; the ledger's and the absent tables with it."""
        lake = self._lake
        own = [name for name in lake.databases.values() if name != lake.databases["silver"]]
        return (
            *self.read(with_bronze=False),
            *_read("Artifacts", [lake.artifacts]),
            _write("Gold", lake.gold, [GOLD]),
            *delete_objects("Gold", lake.gold.arn, [GOLD]),
            _write("Artifacts", lake.artifacts, [DBT_ARTIFACTS, QUERY_RESULTS]),
            *self.athena(lake.workgroup_name),
            self._glue(
                "BuildTables", GLUE_BUILD, *((name, "*") for name in (*own, *self._schemas()))
            ),
        )

    def query(self) -> tuple[Grant, ...]:
        """Ask by SQL in the interactive workgroup; the data itself is another grant."""
        lake, workgroup = self._lake, self._lake.interactive_workgroup_name
        return (
            *_read("Results", [lake.artifacts]),
            _write("Results", lake.artifacts, [QUERY_RESULTS]),
            *self.athena(workgroup),
            self._key,
        )

    def slim_ci(self) -> tuple[Grant, ...]:
        """A pull request's build: reads what is published, writes databases `ci_*` alone."""
        lake = self._lake
        return (
            *self.read(with_bronze=False),
            *_read("Artifacts", [lake.artifacts]),
            _write("Ci", lake.artifacts, [CI, QUERY_RESULTS]),
            *delete_objects("Ci", lake.artifacts.arn, [CI]),
            *self.athena(lake.interactive_workgroup_name),
            self._glue("CiTables", (*GLUE_BUILD, "glue:DeleteDatabase"), ("ci_*", "*")),
        )

    def athena(self, workgroup: str) -> tuple[Grant, ...]:
        """Run statements in a workgroup, and what Athena does in the buckets with our rights."""
        lake = self._lake
        zones = [lake.silver, lake.gold, lake.artifacts]
        arn = lake.context.arn("athena", f"workgroup/{workgroup}")
        parts = tuple(pulumi.Output.concat(zone.arn, "/*") for zone in zones[1:])
        return (
            Grant("Athena", ATHENA, (arn,)),
            Grant(
                "AthenaBuckets",
                ("s3:GetBucketLocation", "s3:ListBucketMultipartUploads"),
                tuple(zone.arn for zone in zones),
            ),
            Grant("AthenaUploads", ("s3:ListMultipartUploadParts",), parts),
        )

    def _databases(self) -> Sequence[str]:
        return [*self._lake.databases.values(), *self._schemas()]

    def _schemas(self) -> Sequence[str]:
        """Dbt gives every slot schemas of its own: gold_blue_staging, gold_green_failures, ..."""
        slots = [name for key, name in self._lake.databases.items() if key.startswith("gold_")]
        return [f"{name}_*" for name in slots]

    def _glue(self, sid: str, actions: tuple[str, ...], *tables: Table) -> Grant:
        arn = self._lake.context.arn
        databases = sorted({database for database, _ in tables})
        return Grant(
            sid,
            actions,
            (
                arn("glue", "catalog"),
                *(arn("glue", f"database/{database}") for database in databases),
                *(arn("glue", f"table/{database}/{table}") for database, table in tables),
            ),
        )


def _tables(feed: str) -> tuple[str, ...]:
    return (feed, BARS_TABLE) if load_feed(feed).has_bars else (feed,)


def _write(sid: str, zone: Zone, prefixes: Sequence[str]) -> Grant:
    return write_objects(sid, zone.arn, prefixes)[0]


def _list(sid: str, zones: Sequence[Zone]) -> Grant:
    return Grant(f"{sid}List", ("s3:ListBucket",), tuple(zone.arn for zone in zones))


def _read(sid: str, zones: Sequence[Zone]) -> tuple[Grant, ...]:
    objects = tuple(pulumi.Output.concat(zone.arn, "/*") for zone in zones)
    return Grant(f"{sid}Read", ("s3:GetObject",), objects), _list(sid, zones)
