"""What describes the lake: Glue databases, schemas of feeds, and workgroups to query it with.

**Databases are declared here, tables are not.** An Iceberg table in Glue is a pointer
(`metadata_location`) that every commit moves. Pulumi updates a table by sending its whole
description: after any change of its code it would send the pointer of its own last state, and every
commit since would be gone. `ignore_changes` does not help: it sends the old value, too. So the
runtime makes and widens its tables (`stream.lake.catalog`: properties, field ids and sort order
that Glue's own form cannot say), and what others build on is published as a schema per feed.

Names of databases are the runtime's own and the same on every stack: a stack needs an account, or a
region of an account, for itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from batch.gold.athena import ABSENT_NAMESPACE, LEDGER_NAMESPACE
from batch.gold.slots import COLOURS
from components.message_schema import COMPATIBILITY, avro_text
from components.security import Security
from context import Context
from stream.feeds import load_feeds
from stream.settings import Settings

SILVER = str(Settings.model_fields["namespace"].default)
GOLD = "gold"
DATABASES: Mapping[str, str] = {
    "silver": SILVER,
    "ledger": LEDGER_NAMESPACE,
    "absent": ABSENT_NAMESPACE,
    "gold": GOLD,
    **{f"gold_{colour}": f"{GOLD}_{colour}" for colour in COLOURS},
}
GIB = 1024**3


class Catalog:
    """Made by the lake, below it."""

    databases: Mapping[str, str]
    resources: list[aws.glue.CatalogDatabase]
    gold_workgroup_name: str
    interactive_workgroup_name: str

    def __init__(
        self, context: Context, security: Security, *, results: str, parent: pulumi.Resource
    ) -> None:
        self._context, self._security, self._parent = context, security, parent
        self._results = results
        self.databases = DATABASES
        self.resources = [
            aws.glue.CatalogDatabase(
                f"database-{key}", name=name, opts=pulumi.ResourceOptions(parent=parent)
            )
            for key, name in DATABASES.items()
        ]
        self._publish_schemas()
        # A full build reads every day at once; people and the API ask for days.
        self.gold_workgroup_name = self._workgroup("gold", 4)
        self.interactive_workgroup_name = self._workgroup("interactive", 1)

    def _publish_schemas(self) -> None:
        registry = aws.glue.Registry(
            "schemas",
            registry_name=self._context.name("feeds"),
            description="Rows of every feed as Silver holds them",
            opts=pulumi.ResourceOptions(parent=self._parent),
        )
        for feed, contract in load_feeds().items():
            aws.glue.Schema(
                f"schema-{feed}",
                schema_name=feed,
                registry_arn=registry.arn,
                data_format="AVRO",
                compatibility=COMPATIBILITY,
                schema_definition=avro_text(contract),
                opts=pulumi.ResourceOptions(parent=self._parent),
            )

    def _workgroup(self, what: str, limits: int) -> str:
        context = self._context
        configuration = aws.athena.WorkgroupConfigurationArgs(
            bytes_scanned_cutoff_per_query=context.settings.athena_scan_limit_gib * limits * GIB,
            enforce_workgroup_configuration=True,
            publish_cloudwatch_metrics_enabled=True,
            engine_version=aws.athena.WorkgroupConfigurationEngineVersionArgs(
                selected_engine_version="Athena engine version 3"
            ),
            result_configuration=aws.athena.WorkgroupConfigurationResultConfigurationArgs(
                output_location=f"{self._results}{what}/",
                expected_bucket_owner=context.settings.account_id,
                encryption_configuration=aws.athena.WorkgroupConfigurationResultConfigurationEncryptionConfigurationArgs(
                    encryption_option="SSE_KMS", kms_key_arn=self._security.data_key_arn
                ),
            ),
        )
        aws.athena.Workgroup(
            f"workgroup-{what}",
            name=context.name(what),
            configuration=configuration,
            opts=pulumi.ResourceOptions(parent=self._parent),
        )
        return context.name(what)
