"""Keys, secrets without values, and the ceiling of every role's permissions.

Three keys, so that whoever reads logs reads no data and whoever reads data reads no password.
Secrets are names only: values are put by hand (`aws secretsmanager put-secret-value`), so none is
in a stack's state. The permission boundary is what no role of the platform can exceed, whatever its
own policy says. Not here: what a role may do below it (`grants`), who did what (`audit`).
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.boundary import boundary_document
from components.keys import KeyUse, log_writers, make_key, trail_writer, writers
from context import Context, Part

SECRETS = {
    "prefect/auth-string": "user:password of the Prefect server",
    "prefect/database/connection": "postgresql+asyncpg address of Prefect's database",
    "mongodb/connection-string": "mongodb address of the system that extracts read",
    "fmp-api/api-key": "Financial Modeling Prep key",
    "pii/key": "Key that masks personal data, 32 random characters or more",
    "api/cursor-key": "Key that signs the API's cursors",
    "dbt/profiles": "dbt profile of people who build by hand",
    "monitoring/pagerduty": "Integration address of the pager",
    "monitoring/slack": "Webhook address of the alerts channel",
}
"""Path below /headrace/<stack>/ -> what is to be put there."""
RECOVERY_DAYS = 30
TRAIL = "audit"
NOTIFIERS = (
    "budgets.amazonaws.com",
    "cloudwatch.amazonaws.com",
    "costalerts.amazonaws.com",
    "events.amazonaws.com",
    "sns.amazonaws.com",
)
"""They put into topics and queues that are encrypted with the data key."""


class Security(Part):
    """What everything else is encrypted with and bounded by."""

    data_key_arn: pulumi.Output[str]
    secrets_key_arn: pulumi.Output[str]
    logs_key_arn: pulumi.Output[str]
    boundary_arn: pulumi.Output[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context, "security")
        self.data_key_arn = make_key(self, _data_use(context)).arn
        self.secrets_key_arn = make_key(self, _SECRETS_USE).arn
        self.logs_key_arn = make_key(self, _logs_use(context)).arn
        self._secrets = {path: self._secret(path) for path in SECRETS}
        keys = (self.data_key_arn, self.secrets_key_arn, self.logs_key_arn)
        self.boundary_arn = aws.iam.Policy(
            "boundary",
            name=context.name("boundary"),
            description="What no role of headrace can exceed",
            policy=boundary_document(context, keys),
            opts=self.below(),
        ).arn
        self.register_outputs(
            {
                "data_key_arn": self.data_key_arn,
                "secrets_key_arn": self.secrets_key_arn,
                "logs_key_arn": self.logs_key_arn,
                "boundary_arn": self.boundary_arn,
            }
        )

    def secret_arn(self, path: str) -> pulumi.Output[str]:
        """The ARN of a secret of `SECRETS`. Raises: KeyError naming those that there are."""
        if path not in self._secrets:
            raise KeyError(f"no secret {path!r}; there are {sorted(SECRETS)}")
        return self._secrets[path]

    def _secret(self, path: str) -> pulumi.Output[str]:
        return aws.secretsmanager.Secret(
            path.replace("/", "-"),
            name=secret_name(self.context, path),
            description=SECRETS[path],
            kms_key_id=self.secrets_key_arn,
            recovery_window_in_days=RECOVERY_DAYS,
            opts=self.kept(),
        ).arn


def secret_name(context: Context, path: str) -> str:
    """The physical name of a secret."""
    return f"/headrace/{context.settings.stack}/{path}"


def log_group(part: Part, security: Security, name: str) -> aws.cloudwatch.LogGroup:
    """A log group below /headrace/<stack>/, encrypted, kept for as long as the stack says.

    `name`: its last part; one that begins with "/aws/" is taken as it is (Lambda, RDS name theirs).
    """
    context = part.context
    physical = name if name.startswith("/aws/") else f"/headrace/{context.settings.stack}/{name}"
    return aws.cloudwatch.LogGroup(
        f"{name.strip('/').replace('/', '-')}-logs",
        name=physical,
        kms_key_id=security.logs_key_arn,
        retention_in_days=context.settings.log_days,
        opts=part.below(),
    )


_SECRETS_USE = KeyUse("secrets", "Secrets of headrace", ("secretsmanager",))


def _data_use(context: Context) -> KeyUse:
    return KeyUse(
        "data",
        "Buckets, streams, tables, queues and databases of headrace",
        through=("dynamodb", "ecr", "kinesis", "lambda", "rds", "s3", "sns", "sqs"),
        granting=("dynamodb", "ecr", "lambda", "rds", "redshift", "redshift-serverless"),
        writers=(writers(context, "Notifiers", NOTIFIERS),),
    )


def _logs_use(context: Context) -> KeyUse:
    stack = context.settings.stack
    patterns = (f"/headrace/{stack}/*", f"/aws/*/{context.name('')}*")
    return KeyUse(
        "logs",
        "Logs and the audit trail of headrace",
        through=("cloudtrail", "logs", "s3"),
        writers=(log_writers(context, patterns), trail_writer(context, context.name(TRAIL))),
    )
