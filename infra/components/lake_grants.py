"""What each kind of service may do to the lake: prefixes of its objects, tables of its catalog.

Prefixes come from `stream.lake.layout`. Calls to Glue are those of pyiceberg's Glue catalog as
`stream.lake.catalog` uses it, and of dbt-athena; tests/infra/test_data_lake.py records them.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pulumi
from grants import Grant, delete_objects, read_objects, use_key, write_objects

from stream.bars import TABLE as BARS_TABLE
from stream.feeds import load_feed
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
GLUE_WRITE = ("glue:CreateDatabase", "glue:CreateTable", "glue:UpdateTable")
_SOME_DAY = date(2000, 1, 1)


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
        lake = self._lake
        bronze = read_objects("Bronze", lake.bronze.arn) if with_bronze else ()
        return (
            *bronze,
            *read_objects("Silver", lake.silver.arn),
            *read_objects("Gold", lake.gold.arn),
            self._glue("ReadCatalog", GLUE_READ, ("*", "*")),
            self._key,
        )

    def stream(self, feed: str) -> tuple[Grant, ...]:
        lake, tables = self._lake, self._tables(feed)
        folders = [
            *map(table_folder, tables),
            quarantine_folder(feed),
            LedgerKey.prefix(feed),
            ClosedShardKey.prefix(feed),
        ]
        metadata = [f"{table_folder(name)}metadata/" for name in tables]
        silver = lake.databases["silver"]
        return (
            *write_objects("Bronze", lake.bronze.arn, [BronzeKey.prefix(feed)]),
            *write_objects("Silver", lake.silver.arn, folders),
            # A commit drops metadata files that are older than the table keeps.
            *delete_objects("SilverMetadata", lake.silver.arn, metadata),
            self._glue("OwnTables", (*GLUE_READ, *GLUE_WRITE), *((silver, t) for t in tables)),
            self._key,
        )

    def maintain(self) -> tuple[Grant, ...]:
        lake = self._lake
        folders = ["silver/", "quarantine/", "ledger/", "closed/"]
        return (
            *read_objects("Bronze", lake.bronze.arn),
            *write_objects("Silver", lake.silver.arn, folders),
            *delete_objects("Silver", lake.silver.arn, folders),
            self._glue("Tables", (*GLUE_READ, "glue:UpdateTable"), (lake.databases["silver"], "*")),
            self._key,
        )

    def gold(self) -> tuple[Grant, ...]:
        lake = self._lake
        return (
            *self.read(with_bronze=False),
            *write_objects("GoldBuild", lake.gold.arn),
            *delete_objects("GoldBuild", lake.gold.arn, ["gold/"]),
            *write_objects("Artifacts", lake.artifacts.arn, ["athena-results/", "dbt-artifacts/"]),
        )

    def _tables(self, feed: str) -> tuple[str, ...]:
        return (feed, BARS_TABLE) if load_feed(feed).has_bars else (feed,)

    def _glue(self, sid: str, actions: tuple[str, ...], *tables: tuple[str, str]) -> Grant:
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
