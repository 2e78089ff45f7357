"""Lake Formation: what people see of the lake, column by column. Services keep to IAM.

Locations are registered in hybrid mode: whoever is not opted in reads by IAM as before, so the
platform's own roles are not touched. Only the role `analyst` is opted in: databases by the tag
`zone`, and, with the option `column_filters`, Silver's tables with a filter that leaves out the
columns that a contract calls personal data. Those are masked in Silver already (`stream.masking`);
the filter keeps even the masked value from people who need not join on it.

Lake Formation's settings, like the catalog itself, are of the whole account and region. New tables
keep the group IAMAllowedPrincipals: without it the tables that the runtime makes at its first start
would be seen by nobody but their maker.
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.data_lake import DataLake
from components.lake_grants import GLUE_READ
from components.security import Security
from context import Context, Part
from grants import Grant, make_role, policy_document
from stream.feeds import load_feeds
from stream.feeds.contract import Contract

lf = aws.lakeformation
SERVICE = "lakeformation.amazonaws.com"
ZONE = "zone"
ANALYST_TAG = "headrace-analyst"
"""A person's session carries this tag with the stack's name: who may be an analyst is said where
people are kept (IAM Identity Center), not here."""
IAM_DEFAULT = "IAM_ALLOWED_PRINCIPALS"


class Governance(Part):
    """Settings, locations, tags, the analyst and what it may see. `admin_arn`: whoever deploys."""

    analyst_role_arn: pulumi.Output[str]

    def __init__(
        self,
        context: Context,
        security: Security,
        lake: DataLake,
        admin_arn: pulumi.Input[str],
    ) -> None:
        super().__init__(context, "governance")
        self._security, self._lake = security, lake
        self._settings = self._make_settings(admin_arn)
        self._register_locations()
        self._analyst = self._make_analyst()
        self.analyst_role_arn = self._analyst.arn
        self._tag_databases()
        if context.settings.options.column_filters:
            for contract in load_feeds().values():
                self._show_silver(contract)
        self.register_outputs({"analyst_role_arn": self.analyst_role_arn})

    def _make_settings(self, admin_arn: pulumi.Input[str]) -> aws.lakeformation.DataLakeSettings:
        return lf.DataLakeSettings(
            "settings",
            admins=[admin_arn],
            create_database_default_permissions=[
                lf.DataLakeSettingsCreateDatabaseDefaultPermissionArgs(
                    principal=IAM_DEFAULT, permissions=["ALL"]
                )
            ],
            create_table_default_permissions=[
                lf.DataLakeSettingsCreateTableDefaultPermissionArgs(
                    principal=IAM_DEFAULT, permissions=["ALL"]
                )
            ],
            opts=self.below(),
        )

    def _register_locations(self) -> None:
        """Silver and Gold; a role of ours, because the service's own may not use our key."""
        zones = {"silver": self._lake.silver, "gold": self._lake.gold}
        role = make_role(
            self,
            "lake-formation",
            self._lake.read_grants(),
            boundary_arn=self._security.boundary_arn,
            service=SERVICE,
        )
        for name, zone in zones.items():
            lf.Resource(
                name,
                arn=zone.arn,
                role_arn=role.arn,
                hybrid_access_enabled=True,
                opts=self._after(),
            )

    def _make_analyst(self) -> aws.iam.Role:
        context = self.context
        databases = [name for key, name in self._lake.databases.items() if key != "absent"]
        catalog = (
            context.arn("glue", "catalog"),
            *(context.arn("glue", f"database/{name}") for name in databases),
            *(context.arn("glue", f"table/{name}/*") for name in databases),
        )
        grants = (
            *self._lake.query_grants(),
            Grant("Catalog", GLUE_READ, catalog),
            Grant("LakeFormation", ("lakeformation:GetDataAccess",), ("*",)),
        )
        trust = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{context.settings.account_id}:root"},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {f"aws:PrincipalTag/{ANALYST_TAG}": context.settings.stack}
            },
        }
        return make_role(
            self,
            "analyst",
            grants,
            boundary_arn=self._security.boundary_arn,
            assumed_by=policy_document([trust]),
        )

    def _tag_databases(self) -> None:
        """Each database says which zone it is; analysts see the published Gold."""
        zones = {key: key.partition("_")[0] for key in self._lake.databases}
        tag = lf.LfTag("zone", key=ZONE, values=sorted(set(zones.values())), opts=self._after())
        tagged = [
            lf.ResourceLfTags(
                key,
                database=lf.ResourceLfTagsDatabaseArgs(name=self._lake.databases[key]),
                lf_tags=[lf.ResourceLfTagsLfTagArgs(key=ZONE, value=zone)],
                opts=self._after(tag, *self._lake.catalog.resources),
            )
            for key, zone in zones.items()
        ]
        for kind, permissions in (("DATABASE", ["DESCRIBE"]), ("TABLE", ["DESCRIBE", "SELECT"])):
            lf.Permissions(
                f"gold-{kind.lower()}",
                principal=self._analyst.arn,
                permissions=permissions,
                lf_tag_policy=lf.PermissionsLfTagPolicyArgs(
                    resource_type=kind,
                    expressions=[
                        lf.PermissionsLfTagPolicyExpressionArgs(key=ZONE, values=["gold"])
                    ],
                ),
                opts=self._after(*tagged),
            )
        for key, zone in zones.items():
            if zone == "gold":
                self._opt_in(key, self._lake.databases[key])

    def _opt_in(self, key: str, database: str) -> None:
        lf.OptIn(
            key,
            principals=[lf.OptInPrincipalArgs(data_lake_principal_identifier=self._analyst.arn)],
            resource_datas=[
                lf.OptInResourceDataArgs(
                    table=lf.OptInResourceDataTableArgs(database_name=database, wildcard=True)
                )
            ],
            opts=self._after(*self._lake.catalog.resources),
        )

    def _show_silver(self, contract: Contract) -> None:
        """One table of Silver, without its personal data."""
        feed, database = contract.feed, self._lake.databases["silver"]
        table = lf.OptInResourceDataTableArgs(database_name=database, name=feed)
        lf.OptIn(
            f"silver-{feed}",
            principals=[lf.OptInPrincipalArgs(data_lake_principal_identifier=self._analyst.arn)],
            resource_datas=[lf.OptInResourceDataArgs(table=table)],
            opts=self._after(),
        )
        hidden = [column.name for column in contract.pii_columns]
        if not hidden:
            lf.Permissions(
                f"silver-{feed}",
                principal=self._analyst.arn,
                permissions=["SELECT"],
                table=lf.PermissionsTableArgs(database_name=database, name=feed),
                opts=self._after(),
            )
            return
        name = f"{feed}-without-personal-data"
        made = lf.DataCellsFilter(
            f"silver-{feed}",
            table_data=lf.DataCellsFilterTableDataArgs(
                name=name,
                table_catalog_id=self.context.settings.account_id,
                database_name=database,
                table_name=feed,
                column_wildcard=lf.DataCellsFilterTableDataColumnWildcardArgs(
                    excluded_column_names=hidden
                ),
                row_filter=lf.DataCellsFilterTableDataRowFilterArgs(
                    # The SDK gives this constructor no types.
                    all_rows_wildcard=lf.DataCellsFilterTableDataRowFilterAllRowsWildcardArgs()  # type: ignore[no-untyped-call]
                ),
            ),
            opts=self._after(),
        )
        lf.Permissions(
            f"silver-{feed}",
            principal=self._analyst.arn,
            permissions=["SELECT"],
            data_cells_filter=lf.PermissionsDataCellsFilterArgs(
                database_name=database,
                name=name,
                table_catalog_id=self.context.settings.account_id,
                table_name=feed,
            ),
            opts=self._after(made),
        )

    def _after(self, *resources: pulumi.Resource) -> pulumi.ResourceOptions:
        """Only once the settings name an administrator may anything be granted."""
        return self.below(depends_on=[self._settings, *resources])
