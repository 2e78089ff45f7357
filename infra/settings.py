"""The typed settings of a stack: `Pulumi.<stack>.yaml`, checked before any resource is made.

`headrace:settings` holds everything but the image's digest, which has a key of its own so that a
promotion changes one line (`headrace:image_digest`). A wrong value stops the program with a list
of every bad key, what was found and what is accepted.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import pulumi
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stream.errors import ConfigError
from stream.feeds import load_feeds

StackName = Literal["dev", "staging", "prod"]

FARGATE_MEMORY_MIB: Mapping[int, Sequence[int]] = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16_384 + 1, 1024),
    4096: range(8192, 30_720 + 1, 1024),
    8192: range(16_384, 61_440 + 1, 4096),
    16_384: range(32_768, 122_880 + 1, 8192),
}
"""Memory that Fargate offers for each number of CPU units (AWS, "Task CPU and memory")."""

ON_DEMAND_SHARDS = 4
"""Shards that AWS gives a new on-demand stream: it cannot feed more processes than that."""

WAREHOUSE_ZONES = 3
"""Zones that a workgroup of Redshift Serverless wants subnets in."""


class Strict(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskSize(Strict):
    """One Fargate task: `cpu` in CPU units (1024 = one vCPU), `memory` in MiB."""

    cpu: int = 1024
    memory: int = 2048

    @model_validator(mode="after")
    def _fits(self) -> Self:
        offered = FARGATE_MEMORY_MIB.get(self.cpu)
        if offered is None:
            raise ValueError(f"cpu {self.cpu}: Fargate offers {sorted(FARGATE_MEMORY_MIB)}")
        if self.memory not in offered:
            raise ValueError(
                f"memory {self.memory} with cpu {self.cpu}: Fargate offers "
                f"{', '.join(map(str, offered))}"
            )
        return self


class FeedSettings(Strict):
    """One feed's stream and dataflow. `shards`: None = on demand.

    `processes`: single-worker processes of the feed's Bytewax cluster, one ECS service each.
    `retention_hours`: of the Kinesis stream, the
    horizon after which an outage loses data.
    """

    shards: int | None = Field(default=None, ge=1, le=10_000)
    processes: int = Field(default=1, ge=1, le=64)  # the lanes that `headrace run` shares
    retention_hours: int = Field(default=48, ge=24, le=8760)
    task: TaskSize = TaskSize()

    @model_validator(mode="after")
    def _has_shards_for_all(self) -> Self:
        shards = self.shards if self.shards is not None else ON_DEMAND_SHARDS
        if self.processes > shards:
            raise ValueError(
                f"{self.processes} processes for {shards} shards: one would read nothing. Raise "
                "`shards` or lower `processes`"
            )
        return self


class ProducerSettings(Strict):
    """One producer service: `headrace produce FEED <arguments>`.

    `secret`: "fmp-api/api-key" if it needs that key.
    """

    feed: str
    arguments: tuple[str, ...]
    task: TaskSize = TaskSize(cpu=256, memory=512)
    secret: Literal["fmp-api/api-key"] | None = None


class PrefectSettings(Strict):
    """The server and its database; `certificate_arn` and `domain` are of the internal ALB."""

    domain: str
    certificate_arn: str = Field(pattern=r"^arn:aws:acm:\S+$")
    server: TaskSize = TaskSize(cpu=512, memory=1024)
    worker: TaskSize = TaskSize(cpu=256, memory=512)
    instance_class: str = Field(default="db.t4g.micro", pattern=r"^db\.\S+$")
    storage_gib: int = Field(default=20, ge=20, le=65_536)
    multi_az: bool = False
    backup_days: int = Field(default=7, ge=1, le=35)


class SlackSettings(Strict):
    """A channel that Amazon Q Developer (once AWS Chatbot) writes into. Ids, no secrets: the
    workspace is let in once by hand, in that service's console.
    """

    team_id: str = Field(pattern=r"^T[0-9A-Z]{6,14}$")
    channel_id: str = Field(pattern=r"^[CG][0-9A-Z]{6,14}$")


class AlertSettings(Strict):
    """Who hears what: P1 pages, P2 is a chat channel, P3 an e-mail; P4 is a dashboard alone.

    `pagerduty`: the address is in the secret monitoring/pagerduty (see `components.paging`).
    """

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    pagerduty: bool = False
    slack: SlackSettings | None = None
    monthly_budget_usd: int = Field(ge=1)


class Options(Strict):
    """Components that a stack may do without: all off until asked for.

    `api`: HTTP API and Lambda over the lake. `lineage`: S3 events into a lineage table.
    `column_filters`: Lake Formation hides personal data from analysts; its filters name tables, so
    only once every feed has been started. `firehose`: a raw tap beside Bronze. `quicksight`: needs
    a subscription and `quicksight_user_arn`. `cloudfront`: exports by signed addresses; its
    certificate is one of us-east-1, its public key a PEM whose private half signs.
    """

    api: bool = False
    lineage: bool = False
    column_filters: bool = False
    firehose: bool = False
    quicksight: bool = False
    quicksight_user_arn: str | None = None
    redshift: bool = False
    cloudfront: bool = False
    intelligent_tiering: bool = False
    cloudtrail_data_events: bool = True
    jwt_issuer: str | None = Field(default=None, pattern=r"^https://\S+$")
    jwt_audience: tuple[str, ...] = ()
    api_requests_per_second: int = Field(default=20, ge=1, le=10_000)
    cloudfront_domain: str | None = None
    cloudfront_certificate_arn: str | None = Field(
        default=None, pattern=r"^arn:aws:acm:us-east-1:\S+$"
    )
    cloudfront_public_key: str | None = Field(
        default=None, pattern=r"^-----BEGIN PUBLIC KEY-----\n"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.quicksight and not self.quicksight_user_arn:
            raise ValueError("quicksight: set quicksight_user_arn as well: somebody must own it")
        if self.api and not (self.jwt_issuer and self.jwt_audience):
            raise ValueError("api: set jwt_issuer and jwt_audience: nobody asks without a token")
        given = (self.cloudfront_domain, self.cloudfront_certificate_arn)
        if self.cloudfront and not (all(given) and self.cloudfront_public_key):
            raise ValueError(
                "cloudfront: set cloudfront_domain, cloudfront_certificate_arn and "
                "cloudfront_public_key: TLS 1.2 needs a certificate, and addresses are signed"
            )
        return self


class StackSettings(Strict):
    """Everything that differs between stacks. `spot`: dev alone, streams run on it at a risk."""

    stack: StackName
    account_id: str = Field(pattern=r"^\d{12}$")
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    zones: tuple[str, ...] = Field(min_length=2, max_length=3)
    vpc_cidr: str = "10.0.0.0/16"
    nat_gateways: int = Field(default=1, ge=1, le=3)
    interface_endpoints: bool = False
    spot: bool = False
    deletion_protection: bool = True
    log_days: Literal[30, 90, 180, 365, 731] = 90
    ecs_exec: bool = False
    image_repository: str = "headrace"
    image_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    stop_timeout_seconds: int = Field(default=120, ge=30, le=120)
    athena_scan_limit_gib: int = Field(default=100, ge=1)
    cost_allocation: str = "market-data"
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    feeds: Mapping[str, FeedSettings]
    producers: Mapping[str, ProducerSettings] = {}
    prefect: PrefectSettings
    alerts: AlertSettings
    options: Options = Options()

    @field_validator("vpc_cidr")
    @classmethod
    def _check_cidr(cls, text: str) -> str:
        network = ipaddress.ip_network(text)
        if network.prefixlen != 16 or not network.is_private:
            raise ValueError("expected a private /16: its subnets are /20")
        return text

    @field_validator("feeds")
    @classmethod
    def _check_feeds(cls, feeds: Mapping[str, FeedSettings]) -> Mapping[str, FeedSettings]:
        streamed = {name for name, contract in load_feeds().items() if contract.has_stream}
        if set(feeds) != streamed:
            raise ValueError(
                f"expected exactly the feeds that have a stream: {sorted(streamed)}; "
                f"missing {sorted(streamed - set(feeds))}, unknown {sorted(set(feeds) - streamed)}"
            )
        return feeds

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        if self.spot and self.stack != "dev":
            raise ValueError(f"spot: only in dev, not in {self.stack}: AWS may take tasks away")
        if self.nat_gateways > len(self.zones):
            raise ValueError(f"nat_gateways {self.nat_gateways}: more than {len(self.zones)} zones")
        if any(not zone.startswith(self.region) for zone in self.zones):
            raise ValueError(f"zones {self.zones}: not all of region {self.region}")
        unknown = {p.feed for p in self.producers.values()} - set(self.feeds)
        if unknown:
            raise ValueError(f"producers: no such feed: {sorted(unknown)}")
        if self.options.redshift and len(self.zones) < WAREHOUSE_ZONES:
            raise ValueError(f"options.redshift: needs subnets in {WAREHOUSE_ZONES} zones")
        if self.stack == "prod":
            self._check_prod()
        return self

    def _check_prod(self) -> None:
        wanted = {
            "nat_gateways": self.nat_gateways == len(self.zones),
            "interface_endpoints": self.interface_endpoints,
            "deletion_protection": self.deletion_protection,
            "log_days": self.log_days >= 365,
            "prefect.multi_az": self.prefect.multi_az,
            "alerts.pagerduty": self.alerts.pagerduty,
            "ecs_exec": not self.ecs_exec,
        }
        if bad := [name for name, is_good in wanted.items() if not is_good]:
            raise ValueError(
                f"prod: {', '.join(bad)}: expected a NAT gateway per zone, private endpoints, "
                "deletion protection, logs of a year, a standby database, a pager and no shell"
            )


def parse_settings(stack: str, given: Mapping[str, Any], image_digest: str) -> StackSettings:
    """Check a stack's settings.

    Raises: ConfigError listing every bad key, what was found and what it accepts.
    """
    try:
        return StackSettings.model_validate({**given, "stack": stack, "image_digest": image_digest})
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_explain(stack, problem) for problem in error.errors(include_url=False))
        ) from None


def read_settings() -> StackSettings:
    """The settings of the stack that Pulumi runs."""
    config = pulumi.Config("headrace")
    given = config.require_object("settings")
    return parse_settings(pulumi.get_stack(), given, config.require("image_digest"))


def _explain(stack: str, problem: Mapping[str, Any]) -> str:
    key = ".".join(map(str, problem["loc"])) or "settings"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = f"no such setting{_nearest(str(problem['loc'][-1]))}"
    found = problem["input"]
    shown = "" if isinstance(found, (dict, BaseModel)) else f" (found {found!r})"
    return f"Pulumi.{stack}.yaml: {key}: {message}{shown}"


def _nearest(name: str) -> str:
    known = {field for model in Strict.__subclasses__() for field in model.model_fields}
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f", did you mean {near[0]!r}?" if near else "; `infra/settings.py` has all of them"
