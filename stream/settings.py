"""The effective settings: one class, environment prefix HEADRACE_, units in names.

The only place that reads the environment. A wrong value stops the start with a list of every
bad field and what it accepts; `headrace check` prints the effective values, secrets hidden.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from stream.addresses import check_place
from stream.clock import parse_time_ms
from stream.errors import ConfigError
from stream.failpoints import parse_rules
from stream.slices import SliceRule

PII_KEY_CHARACTERS = 32
"""At least so long: the masked names are few and known, so the key is all that hides them."""


STALLED_EPOCHS = 5


class Settings(BaseSettings):
    """Every knob of the platform. Defaults are what `headrace up` on a laptop needs."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", extra="forbid", frozen=True)

    home: Path = Field(Path(".headrace"), description="Folder of the local platform and its lake")
    lake: str = Field(
        "s3://headrace-lake", description="Root of the lake: s3://bucket[/prefix] or file:///path"
    )
    bronze_lake: str | None = Field(
        None, description="Root of bronze/, in the same forms; unset: the lake"
    )
    gold_lake: str | None = Field(
        None, description="Root of gold/ (records of builds, Athena's tables); unset: the lake"
    )
    artifacts_lake: str | None = Field(
        None, description="Root of dbt-artifacts/ and athena-results/; unset: the lake"
    )
    catalog: Literal["sqlite", "glue"] = Field("sqlite", description="Iceberg catalog")
    namespace: str = Field("silver", pattern=r"^[a-z][a-z0-9_]*$", description="Catalog namespace")
    stream_prefix: str = Field(
        "headrace-", pattern=r"^[A-Za-z0-9_.-]*$", description="Kinesis stream = prefix + feed"
    )
    region: str = Field("us-east-1", description="AWS region")
    aws: Literal["embedded", "account"] = Field(
        "embedded",
        description="embedded: the emulator that `headrace up` starts; account: real AWS",
    )
    emulator: str = Field(
        "roto",
        pattern=r"^(roto|http://\S+)$",
        description="roto: the embedded AWS; http://host:port: an emulator that you run yourself",
    )
    shards: int = Field(2, ge=1, le=1_000, description="Shards of a stream that headrace creates")

    lanes: int = Field(64, ge=1, le=4_096, description="Fixed hash-key ranges; never lower it")
    start: str = Field(
        "TRIM_HORIZON",
        pattern=r"^(TRIM_HORIZON|LATEST|\d{4}-\d\d-\d\dT\S+)$",
        description="Where a feed's first start begins: TRIM_HORIZON, LATEST or an ISO time",
    )
    window_ms: int = Field(2_000, ge=50, le=900_000, description="Arrival window of a slice")
    grace_ms: int = Field(
        500, ge=0, le=60_000, description="Wait after a quiet window before its slice is cut"
    )
    slice_max_rows: int = Field(50_000, ge=1, le=1_000_000, description="Cap on a slice's records")
    slice_max_bytes: int = Field(
        8_000_000, ge=1_000, le=256_000_000, description="Cap on a slice's payload"
    )
    epoch_seconds: float = Field(10.0, ge=0.05, le=900, description="Commit interval")
    epoch_max_bytes: int = Field(
        256_000_000, ge=1_000_000, description="Payload read per epoch: the back-pressure credit"
    )
    processes: int = Field(
        1, ge=1, le=256, description="Processes that share the lanes of one feed's dataflow"
    )
    process_index: int | None = Field(
        None,
        ge=0,
        description="Which of the addresses this process is; unset: it starts all of them itself",
    )
    addresses: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.:\[\],-]+$",
        description="host:port of each process of one dataflow, comma-separated, the same in all",
    )
    stall_seconds: float = Field(
        60.0,
        ge=1,
        le=3_600,
        description="A process leaves when no epoch ended for so long, or for 5 epochs",
    )
    list_shards_seconds: float = Field(5.0, ge=0.1, le=300, description="Shard listing interval")
    poll_ms: int = Field(
        250, ge=10, le=60_000, description="Pause between GetRecords of one shard at its tip"
    )
    enhanced_fan_out: str | None = Field(
        None, description="Name of a registered stream consumer; unset: shared GetRecords"
    )
    archive_prefix: str = Field(
        "headrace-archive-",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Lease table of `headrace archive` in DynamoDB = prefix + feed",
    )
    archive_poll_ms: int = Field(
        1_000, ge=200, le=60_000, description="Pause between an archiver's reads of one shard"
    )
    upload_threads: int = Field(8, ge=1, le=64, description="Parallel uploads of one dataflow")
    spool_max_bytes: int = Field(
        1_000_000_000, ge=1_000_000, description="Bound of a producer's disk spool"
    )
    metrics_host: str = Field("127.0.0.1", description="Bind address of /metrics and /healthz")
    metrics_port: int | None = Field(
        None, ge=0, le=65_535, description="Port of /metrics and /healthz; unset: none served"
    )
    metrics_export: Literal["none", "emf"] = Field(
        "none", description="emf: CloudWatch's metric lines on stdout, beside /metrics"
    )
    metrics_export_seconds: float = Field(
        30.0, ge=0.1, le=60, description="Interval of the exported metric lines"
    )
    metrics_per_shard: bool = Field(
        False, description="Export a series per shard, not only the worst; each costs money"
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="OTLP/HTTP collector of traces, http://host:4318; unset: no traces",
    )
    table_watch_seconds: float = Field(
        60.0, ge=0.1, le=86_400, description="Shortest time between counts of a table's files"
    )
    task_vcpus: float = Field(1.0, gt=0, le=192, description="vCPUs paid for one dataflow")
    task_memory_gb: float = Field(2.0, gt=0, le=1_000, description="GB paid for one dataflow")
    price_vcpu_hour_usd: float = Field(
        0.03238, ge=0, description="Fargate ARM, eu-west-1, 2026-11; as the prices below"
    )
    price_memory_gb_hour_usd: float = Field(0.00356, ge=0, description="Fargate ARM, 1 GB")
    price_shard_hour_usd: float = Field(0.017, ge=0, description="A provisioned Kinesis shard")
    price_thousand_writes_usd: float = Field(0.005, ge=0, description="S3 PUT and LIST requests")
    price_thousand_reads_usd: float = Field(0.0004, ge=0, description="S3 GET requests")
    ui_host: str = Field("127.0.0.1", description="Bind address of the page of `headrace ui`")
    ui_port: int = Field(8380, ge=0, le=65_535, description="Its port; 0: any free one")
    ui_hosts: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.:,-]*$",
        description="Further host names that the page answers to, comma-separated",
    )
    fmp_api_key: SecretStr | None = Field(None, description="Financial Modeling Prep API key")
    fmp_secret_id: str | None = Field(
        None, description="Secrets Manager name or ARN of the FMP key, if fmp_api_key is unset"
    )
    fmp_calls_per_minute: int = Field(300, ge=1, le=10_000, description="Budget of calls to FMP")
    news_private_hosts: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.:,-]*$",
        description="Hosts of RSS feeds, comma-separated, that may be private and without TLS",
    )
    mongo_uri: SecretStr | None = Field(None, description="mongodb://…, with its password")
    mongo_secret_id: str | None = Field(
        None, description="Secrets Manager name or ARN of the MongoDB address, if it is unset"
    )
    mongo_database: str = Field("headrace", description="MongoDB database to extract from")
    pii_key: SecretStr | None = Field(
        None,
        description=f"Key that masks personal data, {PII_KEY_CHARACTERS} random characters or more",
    )
    pii_secret_id: str | None = Field(
        None, description="Secrets Manager name or ARN of that key, if pii_key is unset"
    )
    pii_key_replaces: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{16}$",
        description="Fingerprint of the lake's old key, while it is rotated; else unset",
    )
    claims: Literal["sqlite", "dynamodb"] = Field(
        "sqlite", description="Where backfills share their work: a local file, or DynamoDB"
    )
    claims_table: str = Field("headrace-claims", description="DynamoDB table of the claims")
    api_host: str = Field("127.0.0.1", description="Bind address of `headrace api`")
    api_port: int = Field(8470, ge=0, le=65_535, description="Port of the API; 0: any free one")
    api_token: SecretStr | None = Field(
        None, description="Bearer token of the API; unset: made once, in the home's api-token"
    )
    api_requests_per_second: int = Field(
        200, ge=1, le=1_000_000, description="Per caller of the API, bursts of twice as many"
    )
    api_query_seconds: float = Field(
        10.0, gt=0, le=28, description="How long one query of the API may run"
    )
    api_workgroup: str | None = Field(
        None, description="Athena workgroup that the API asks; unset: it reads with DuckDB"
    )
    api_cursor_secret_id: str | None = Field(
        None, description="Secrets Manager name or ARN of the key that seals the API's cursors"
    )
    prefect_url: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Prefect API whose runs are shown; unset: the local platform's, if it runs one",
    )
    prefect_auth: SecretStr | None = Field(
        None, description="user:password of that Prefect API, if it asks for one"
    )
    keep_days: int | None = Field(
        None, ge=1, description="Retention: days that Silver tables keep; unset: for ever"
    )
    silence_stops_gold: bool = Field(
        False,
        description="A silent hour of a venue that never closes keeps Gold from being published: "
        "for platforms that run around the clock",
    )
    failpoints: str | None = Field(
        None,
        description="Places where processes fail on purpose (stream/failpoints.py); unset: none",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Logging")
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or JSON")

    @field_validator("start")
    @classmethod
    def _check_start(cls, text: str) -> str:
        if text not in {"TRIM_HORIZON", "LATEST"}:
            parse_time_ms(text)
        return text

    @field_validator("bronze_lake", "gold_lake", "artifacts_lake")
    @classmethod
    def _check_zone(cls, root: str | None, info: ValidationInfo) -> str | None:
        if root is None:
            return None
        mine = _root_parts(root)
        if mine is None:
            raise ValueError("expected s3://bucket[/prefix] or file:///folder")
        for name in ("lake", "bronze_lake", "gold_lake"):
            other = info.data.get(name)  # those before this one
            theirs = _root_parts(other) if other else None
            if theirs and mine != theirs and mine[: len(theirs)] == theirs[: len(mine)]:
                raise ValueError(
                    f"this and HEADRACE_{name.upper()}={other} lie one inside the other, so an "
                    "object would have two names. Give the same root, or roots side by side"
                )
        return root

    @field_validator("pii_key")
    @classmethod
    def _check_pii_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value().strip()) < PII_KEY_CHARACTERS:
            raise ValueError(f"expected at least {PII_KEY_CHARACTERS} characters")
        return key

    @field_validator("failpoints")
    @classmethod
    def _check_failpoints(cls, text: str | None) -> str | None:
        parse_rules(text or "")
        return text

    @model_validator(mode="after")
    def _keep_failpoints_from_accounts(self) -> Self:
        if self.failpoints and (real := self._real_services()):
            raise ValueError(
                f"HEADRACE_FAILPOINTS is set, and {' and '.join(real)} would be a real account's. "
                "Unset it, or point AWS_ENDPOINT_URL at an emulator"
            )
        return self

    @model_validator(mode="after")
    def _check_cluster(self) -> Self:
        given = self.processes if "processes" in self.model_fields_set else None
        check_place(self.process_index, self.process_addresses, given, self.lanes)
        return self

    def _real_services(self) -> list[str]:
        """The services of AWS that no emulator stands in for."""
        if self.aws == "embedded" and aws_endpoint("kinesis") is None:
            return []  # `connect` points everything at the emulator
        roots = (self.lake, *self.zones.values())
        needed = {
            "kinesis": True,
            "s3": any(root.startswith("s3://") for root in roots),
            "glue": self.catalog == "glue",
            "dynamodb": self.claims == "dynamodb",
        }
        return [name for name, is_needed in needed.items() if is_needed and _is_real(name)]

    @property
    def process_addresses(self) -> tuple[str, ...]:
        """Where each process of the cluster listens; empty: this is none."""
        return tuple(self.addresses.split(",")) if self.addresses else ()

    @property
    def stall_limit_seconds(self) -> float:
        """How long no epoch may end before a process counts as stalled."""
        return max(self.stall_seconds, STALLED_EPOCHS * self.epoch_seconds)

    @property
    def zones(self) -> dict[str, str]:
        """The roots of the zones that have one of their own."""
        found = {
            "bronze": self.bronze_lake,
            "gold": self.gold_lake,
            "artifacts": self.artifacts_lake,
        }
        return {zone: root for zone, root in found.items() if root is not None}

    @property
    def is_in_folders(self) -> bool:
        """Whether all of the lake lies on this machine, so that nothing needs to run to read it."""
        roots = (self.lake, *self.zones.values())
        return self.catalog == "sqlite" and all(root.startswith("file://") for root in roots)

    @property
    def private_hosts(self) -> tuple[str, ...]:
        """Hosts of RSS feeds that need not be of the public internet."""
        return tuple(host for host in self.news_private_hosts.lower().split(",") if host)

    @property
    def page_hosts(self) -> tuple[str, ...]:
        """Host names of the page, beside this machine's own."""
        return (self.ui_host, *(host for host in self.ui_hosts.lower().split(",") if host))

    @property
    def slice_rule(self) -> SliceRule:
        """The slicing rule of live flows."""
        return SliceRule(self.window_ms, self.slice_max_rows, self.slice_max_bytes)

    def stream_name(self, feed: str) -> str:
        """The Kinesis stream of a feed."""
        return f"{self.stream_prefix}{feed}"


def load_settings(**overrides: object) -> Settings:
    """Read the environment, apply overrides (None = not given), check everything.

    Raises: ConfigError listing every bad field, what was found and what it accepts.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    unknown = _unknown_variables()
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError("\n".join([*map(_explain, error.errors()), *unknown])) from None
    if unknown:
        raise ConfigError("\n".join(unknown))
    return settings


def aws_endpoint(service: str) -> str | None:
    """The endpoint override of one service, as the AWS SDKs read it."""
    return os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get(
        "AWS_ENDPOINT_URL"
    )


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """Credentials for readers that no AWS SDK serves (DuckDB); secrets stay out of any repr."""

    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None = None


def aws_credentials() -> AwsCredentials | None:
    """The credentials that the environment holds, under the names of the AWS SDKs."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return None
    token = os.environ.get("AWS_SESSION_TOKEN")
    return AwsCredentials(key, SecretStr(secret), SecretStr(token) if token else None)


SECRETS = tuple(
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
)
"""The settings that are never shown."""

AWS_SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
"""Variables of the AWS SDKs that hold what opens an account."""


def secret_values(settings: Settings) -> tuple[str, ...]:
    """Every secret that this process was given, for the logs to leave out."""
    own = (value.get_secret_value() for _, value in settings if isinstance(value, SecretStr))
    aws = (os.environ.get(name, "") for name in AWS_SECRETS)
    return tuple(value for value in (*own, *aws) if value)


def child_environment(settings: Settings, secrets: Collection[str] = ()) -> dict[str, str]:
    """The environment that gives a child process exactly these settings.

    Args: secrets: those that this child needs. It gets no other one: what it logs, dumps or starts
    itself cannot show what it never had.
    """
    values = {
        f"HEADRACE_{name.upper()}": str(
            value.get_secret_value() if isinstance(value, SecretStr) else value
        )
        for name, value in settings
        if value is not None and (name in secrets or name not in SECRETS)
    }
    return {**_without_our_secrets(), **values, "HEADRACE_HOME": str(settings.home.absolute())}


def bare_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a child that asks neither AWS nor any source: `settings` (default: this process's
    environment) without what opens an account.
    """
    found = _without_our_secrets() if settings is None else settings
    return {name: value for name, value in found.items() if name not in AWS_SECRETS}


def _without_our_secrets() -> dict[str, str]:
    ours = {f"HEADRACE_{name.upper()}" for name in SECRETS}
    return {name: value for name, value in os.environ.items() if name not in ours}


def correlation_id() -> str | None:
    """The id that ties log lines to the job that started this process; None without one.

    Prefect's workers set PREFECT__FLOW_RUN_ID; whatever a flow starts gets LOG_CORRELATION_ID.
    """
    return os.environ.get("LOG_CORRELATION_ID") or os.environ.get("PREFECT__FLOW_RUN_ID")


def set_correlation_id(value: str) -> None:
    """Say for this process and its children which job they belong to; an existing id wins."""
    os.environ.setdefault("LOG_CORRELATION_ID", value)


def set_aws_environment(values: dict[str, str]) -> None:
    """Point this process and its children at an emulator; existing values win."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


def _is_real(service: str) -> bool:
    """Whether a call to this service would reach AWS itself."""
    host = urlsplit(aws_endpoint(service) or "").hostname
    return host is None or host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def _root_parts(root: str) -> tuple[str, ...] | None:
    """Where a root lies, from the outside in; None if it is no address of a bucket or folder."""
    kind, _, rest = root.partition("://")
    if kind == "file" and rest.startswith("/"):
        return (kind, *PurePosixPath(os.path.normpath(rest)).parts[1:])
    bucket, *prefix = rest.split("/")
    return (kind, bucket, *filter(None, prefix)) if kind == "s3" and bucket else None


def _unknown_variables() -> list[str]:
    known = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}
    stray = sorted(
        name for name in os.environ if name.startswith("HEADRACE_") and name not in known
    )
    return [f"{name}: no such setting; `headrace check` lists them all" for name in stray]


def _explain(error: object) -> str:
    assert isinstance(error, dict)
    if not error["loc"]:  # of several settings together: the message names them
        return str(error["msg"]).removeprefix("Value error, ")
    name = ".".join(str(part) for part in error["loc"])
    info = Settings.model_fields.get(name)
    meaning = f" ({info.description})" if info else ""
    found = "a secret that is not shown" if name in SECRETS else repr(error.get("input"))
    return f"HEADRACE_{name.upper()}{meaning}: {error['msg']}, found {found}"
