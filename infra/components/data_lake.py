"""The lake: buckets by zone, the claims of backfills, and who may read and write what.

`HEADRACE_LAKE` is the Silver bucket: Silver, quarantine, ledger and what else is not named. Bronze,
Gold and artifacts have buckets of their own, each with its own lifecycle.

**Bronze ages by class, never by deletion**: infrequent access after 30 days, Glacier after 90. The
class is Glacier *Instant Retrieval*: replay and backfill read old slices with a plain GetObject,
and nothing in the platform asks for a restore and waits hours for it. It costs 10 % more than
Flexible Retrieval per GB and 0.03 USD per GB read back. Objects below 128 KB stay where they are:
S3 does not move them by default, and the colder classes would bill them as 128 KB.

**No Object Lock on Bronze.** Under a default retention S3 refuses a PutObject without a checksum
header, which the store's client does not send; and raw messages name people, so an erasure must be
possible. Instead: slices are created once (a conditional put), no role of the platform may delete
one, and the bucket's policy lets nobody but the role `break-glass` remove a version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from components.bucket import BucketPlan, Rule, Zone, expire, make_bucket, move
from components.catalog import Catalog
from components.lake_grants import LakeGrants
from components.lake_places import CI, FLOW_RESULTS, QUERY_RESULTS, SILVER
from components.security import Security
from context import Context, Part
from grants import Grant
from stream.lake.layout import BRONZE

IA, GLACIER, TIERING = "STANDARD_IA", "GLACIER_IR", "INTELLIGENT_TIERING"
BRONZE_IA_DAYS, BRONZE_GLACIER_DAYS, SILVER_IA_DAYS = 30, 90, 60
BREAK_GLASS = "break-glass"
RESULT_DAYS, FLOW_RESULT_DAYS, CI_DAYS = 7, 30, 7


def log_writers(context: Context) -> list[dict[str, Any]]:
    """Who puts access logs: S3 for its buckets, the load balancers. ACLs are off, so by policy."""
    bucket = f"arn:aws:s3:::{context.bucket_name('access-logs')}"
    own = {"StringEquals": {"aws:SourceAccount": context.settings.account_id}}
    put = {"Effect": "Allow", "Action": "s3:PutObject", "Condition": own}
    folder = f"{bucket}/*/AWSLogs/{context.settings.account_id}/*"
    return [
        {
            **put,
            "Sid": "BucketLogs",
            "Principal": {"Service": "logging.s3.amazonaws.com"},
            "Resource": f"{bucket}/*",
        },
        {
            **put,
            "Sid": "BalancerLogs",
            "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
            "Resource": folder,
        },
    ]


class DataLake(Part):
    """Buckets, claims and catalog."""

    bronze: Zone
    silver: Zone
    gold: Zone
    artifacts: Zone
    access_logs: Zone
    environment: dict[str, pulumi.Input[str]]
    databases: Mapping[str, str]
    workgroup_name: str
    interactive_workgroup_name: str
    claims_table_name: str
    claims_table_arn: pulumi.Output[str]
    grants: LakeGrants

    def __init__(self, context: Context, security: Security) -> None:
        super().__init__(context, "data-lake")
        self._key_arn = security.data_key_arn
        self.access_logs = self._access_logs()
        self.bronze = self._bronze()
        self.silver = self._zone("silver", 7, self._silver_rules())
        self.gold = self._zone("gold", 7)
        self.artifacts = self._zone(
            "artifacts",
            30,
            [
                expire("query-results", QUERY_RESULTS, RESULT_DAYS),
                expire("flow-results", FLOW_RESULTS, FLOW_RESULT_DAYS),
                expire("pull-requests", CI, CI_DAYS),
            ],
        )
        claims = self._claims()
        self.claims_table_name, self.claims_table_arn = context.name("claims"), claims.arn
        self.catalog = Catalog(
            context, security, results=f"{self.artifacts.uri}/{QUERY_RESULTS}", parent=self
        )
        self.databases = self.catalog.databases
        self.workgroup_name = self.catalog.gold_workgroup_name
        self.interactive_workgroup_name = self.catalog.interactive_workgroup_name
        self.environment = self._environment()
        self.grants = LakeGrants(self, self._key_arn)
        self.register_outputs(
            {zone: getattr(self, zone).arn for zone in ("bronze", "silver", "gold", "artifacts")}
        )

    def read_grants(self, *, with_bronze: bool = False) -> tuple[Grant, ...]:
        """Read Silver, Gold and their tables. `with_bronze`: raw messages as well; they name
        people.
        """
        return self.grants.read(with_bronze=with_bronze)

    def stream_grants(self, feed: str) -> tuple[Grant, ...]:
        """What the dataflow of a feed does to the lake."""
        return self.grants.stream(feed)

    def maintain_grants(self) -> tuple[Grant, ...]:
        """Compaction, expiry, orphans, retention: deletes in Silver's bucket, never in Bronze."""
        return self.grants.maintain()

    def gold_grants(self) -> tuple[Grant, ...]:
        """What a build of Gold does, dbt-athena included."""
        return self.grants.gold()

    def query_grants(self) -> tuple[Grant, ...]:
        """Run SQL in the interactive workgroup."""
        return self.grants.query()

    def _environment(self) -> dict[str, pulumi.Input[str]]:
        return {
            "HEADRACE_AWS": "account",
            "HEADRACE_REGION": self.context.settings.region,
            "HEADRACE_LAKE": self.silver.uri,
            "HEADRACE_BRONZE_LAKE": self.bronze.uri,
            "HEADRACE_GOLD_LAKE": self.gold.uri,
            "HEADRACE_ARTIFACTS_LAKE": self.artifacts.uri,
            "HEADRACE_CATALOG": "glue",
            "HEADRACE_NAMESPACE": self.databases["silver"],
            "HEADRACE_CLAIMS": "dynamodb",
            "HEADRACE_CLAIMS_TABLE": self.claims_table_name,
        }

    def _zone(
        self,
        what: str,
        old_versions_days: int,
        rules: Sequence[Rule] = (),
        statements: Sequence[dict[str, Any]] = (),
    ) -> Zone:
        logs_to = self.access_logs.bucket.id
        return make_bucket(
            self,
            BucketPlan(what, self._key_arn, old_versions_days, rules, logs_to, statements),
        )

    def _keep_versions(self, what: str) -> dict[str, Any]:
        """Nobody removes a version, except by the role that an incident is worked on with."""
        context = self.context
        breaker = context.arn("iam", f"role/{context.name(BREAK_GLASS)}", region=False)
        return {
            "Sid": "KeepVersions",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:DeleteObjectVersion",
            "Resource": f"arn:aws:s3:::{context.bucket_name(what)}/*",
            "Condition": {"ArnNotEquals": {"aws:PrincipalArn": breaker}},
        }

    def _bronze(self) -> Zone:
        zone = self._zone(
            "bronze",
            90,
            [move("age", BRONZE, (BRONZE_IA_DAYS, IA), (BRONZE_GLACIER_DAYS, GLACIER))],
            [self._keep_versions("bronze")],
        )
        aws.s3.BucketNotification(
            "bronze", bucket=zone.bucket.id, eventbridge=True, opts=self.below()
        )
        return zone

    def _silver_rules(self) -> list[Rule]:
        """Tiering by use instead of by age, if the stack asks for it: from the first day."""
        if self.context.settings.options.intelligent_tiering:
            return [move("age", SILVER, (0, TIERING))]
        return [move("age", SILVER, (SILVER_IA_DAYS, IA))]

    def _access_logs(self) -> Zone:
        days = self.context.settings.log_days
        rules, writers = [expire("old-logs", "", days)], log_writers(self.context)
        return make_bucket(self, BucketPlan("access-logs", None, 30, rules, None, writers))

    def _claims(self) -> aws.dynamodb.Table:
        return aws.dynamodb.Table(
            "claims",
            name=self.context.name("claims"),
            hash_key="part",
            range_key="key",
            attributes=[
                aws.dynamodb.TableAttributeArgs(name=name, type="S") for name in ("part", "key")
            ],
            billing_mode="PAY_PER_REQUEST",
            deletion_protection_enabled=self.context.settings.deletion_protection,
            point_in_time_recovery=aws.dynamodb.TablePointInTimeRecoveryArgs(enabled=True),
            server_side_encryption=aws.dynamodb.TableServerSideEncryptionArgs(
                enabled=True, kms_key_arn=self._key_arn
            ),
            opts=self.kept(),
        )
