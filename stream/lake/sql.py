"""DuckDB over the lake's Parquet files: connect, reach S3 offline, name the files of a snapshot.

The httpfs extension comes from its own Python package and is loaded by path: nothing is ever
installed or downloaded while a query runs. Credentials go into a DuckDB secret, never into SQL
text that an error could print.
Not here: which views exist (`query`), what the rows must add up to (`prove`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa
from pydantic import SecretStr

from stream.errors import ConfigError
from stream.settings import AwsCredentials, aws_credentials, aws_endpoint

_CONFIG: dict[str, Any] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",  # pragma: allowlist secret
}
_SIMPLE = {
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.timestamp("us"): "TIMESTAMP",
}


def connect_sql(
    lake: str,
    region: str,
    *,
    zones: Sequence[str] = (),
    threads: int | None = None,
    memory_limit: str | None = None,
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that can read the objects of a lake (`s3://...` or `file:///...`).

    Args: zones: roots beside the lake's own that a statement may read from, too.

    Raises: ConfigError when one of them is on S3 and no credentials are in the environment.
    """
    limits = {"threads": threads, "memory_limit": memory_limit}
    config = {**_CONFIG, **{name: value for name, value in limits.items() if value is not None}}
    connection = duckdb.connect(":memory:", config=config)
    reach_lake(connection, lake, region, zones)
    return connection


def reach_lake(
    connection: duckdb.DuckDBPyConnection, lake: str, region: str, zones: Sequence[str] = ()
) -> None:
    """Let an existing connection read a lake's objects. Raises: ConfigError, see `connect_sql`."""
    buckets = [f"s3://{urlsplit(r).netloc}" for r in (lake, *zones) if r.startswith("s3://")]
    if buckets:
        _reach_s3(connection, list(dict.fromkeys(buckets)), region)


def parquet_source(
    addresses: Sequence[str], schema: pa.Schema, *, with_address: bool = False
) -> str:
    """SQL that reads exactly these data files as a table.

    Columns are found by Iceberg field id, so files written before a column was added read as
    NULL there. Prices become DECIMAL(28,8): DuckDB keeps a product of two DECIMAL(18,8) at 18
    digits and overflows on price x size. No files: a typed table without rows.
    """
    if not addresses:
        columns = [f"NULL::{duckdb_type(f.type)} AS {quote_name(f.name)}" for f in schema]
        extra = [*columns, "NULL::VARCHAR AS filename"] if with_address else columns
        return f"(SELECT {', '.join(extra)} WHERE false)"
    files = ", ".join(quote_text(file_path(address)) for address in addresses)
    address = ", filename = true" if with_address else ""
    if any(pa.types.is_nested(field.type) for field in schema):
        return f"read_parquet([{files}], union_by_name = true{address})"
    fields = ", ".join(
        f"{_field_id(field)}: {{name: {quote_text(field.name)}, "
        f"type: {quote_text(duckdb_type(field.type))}, default_value: NULL}}"
        for field in schema
    )
    return f"read_parquet([{files}], schema = MAP {{{fields}}}{address})"


def duckdb_type(kind: pa.DataType) -> str:
    """The DuckDB type that a column is read as."""
    if pa.types.is_decimal(kind):
        return (
            "DECIMAL(28,8)" if kind.precision <= 18 else f"DECIMAL({kind.precision},{kind.scale})"
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    try:
        return _SIMPLE[kind]
    except KeyError:
        raise ConfigError(
            f"a column of type {kind} has no SQL type here; extend stream/lake/sql.py"
        ) from None


def file_path(address: str) -> str:
    """An object's address as DuckDB reads it: folders by path, S3 by address."""
    return address.removeprefix("file://")


def lock_sql(
    connection: duckdb.DuckDBPyConnection, readable: Sequence[str], folders: Sequence[str] = ()
) -> None:
    """From now on SQL reads these files, what lies below these folders (addresses), and nothing
    else: no other path, no address, no Python variable, no extension, and no SET that would take it
    back. What is attached stays open.
    """
    paths = ", ".join(quote_text(file_path(address)) for address in readable)
    connection.execute(f"SET allowed_paths = [{paths}]")
    if folders:
        below = ", ".join(quote_text(f"{file_path(address)}/") for address in folders)
        connection.execute(f"SET allowed_directories = [{below}]")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _reach_s3(connection: duckdb.DuckDBPyConnection, buckets: Sequence[str], region: str) -> None:
    connection.load_extension(str(_httpfs_path()))
    credentials = aws_credentials() or _role_credentials()
    if credentials is None:
        raise ConfigError(
            f"no AWS credentials to read {buckets[0]}: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, a profile or a role (`headrace up` does it for the local "
            "platform)."
        )
    connection.execute(*_secret(credentials, region, aws_endpoint("s3"), buckets))


def _role_credentials() -> AwsCredentials | None:
    """What the SDK finds beyond the two variables: a profile, SSO, a task's or machine's role.

    They are frozen for this connection; a role's last for an hour or more.
    """
    import boto3  # noqa: PLC0415 - 0.3 s that a local query need not pay

    found = boto3.Session().get_credentials()
    now = found.get_frozen_credentials() if found else None
    if now is None or not now.access_key or not now.secret_key:
        return None
    token = SecretStr(now.token) if now.token else None
    return AwsCredentials(now.access_key, SecretStr(now.secret_key), token)


def _secret(
    credentials: AwsCredentials, region: str, endpoint: str | None, buckets: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """A CREATE SECRET statement and its parameters: secrets travel beside the text."""
    options: dict[str, Any] = {
        "key_id": credentials.access_key_id,
        "secret": credentials.secret_access_key.get_secret_value(),
        "region": region,
        "scope": list(buckets),
    }
    if credentials.session_token is not None:
        options["session_token"] = credentials.session_token.get_secret_value()
    if endpoint:
        parts = urlsplit(endpoint)
        options |= {
            "endpoint": parts.netloc,
            "url_style": "path",
            "use_ssl": parts.scheme != "http",
        }
    settings = ", ".join(f"{name} ${name}" for name in options)
    return f"CREATE SECRET lake (TYPE s3, {settings})", options


def _httpfs_path() -> Path:
    spec = find_spec("duckdb_extension_httpfs")
    if spec is None or spec.origin is None:
        raise ConfigError("the package duckdb-extension-httpfs is not installed: run `make setup`.")
    found = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}"
    path = found / "httpfs.duckdb_extension"
    if not path.exists():
        raise ConfigError(
            f"duckdb {duckdb.__version__} needs duckdb-extension-httpfs of the same version, "
            f"{path} does not exist. Install both as pyproject.toml pins them."
        )
    return path


def _field_id(field: pa.Field) -> int:
    return int(field.metadata[b"PARQUET:field_id"])


def quote_text(value: str) -> str:
    """A string literal.

    >>> quote_text("it's")
    "'it''s'"
    """
    return "'" + value.replace("'", "''") + "'"


def quote_name(value: str) -> str:
    """An identifier, whatever it holds.

    >>> quote_name('a"; DROP TABLE b')
    '"a""; DROP TABLE b"'
    """
    return '"' + value.replace('"', '""') + '"'
