"""How pyiceberg reaches a table's files: one S3 client for a process, one request for a small file.

pyiceberg builds a client for every table it loads, and a table is loaded for each commit and each
look at positions. Each has connections of its own, and goes only with Python's next full
collection: 300 open handles were seen. It also writes a file of a few KB in three requests, and
the last of them, repeated after a lost answer, fails (NO_SUCH_UPLOAD).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, S3FileSystem
from pyiceberg.io.pyarrow import PyArrowFileIO

CONNECT_SECONDS = 3.0
REQUEST_SECONDS = 15.0
ATTEMPTS = 6
"""With pauses that double, about 3 s of a service that refuses; the default of 3 is under 1 s."""


class LakeFileIO(PyArrowFileIO):
    """pyiceberg's own, but clients of S3 are shared."""

    def _initialize_fs(self, scheme: str, netloc: str | None = None) -> FileSystem:
        if scheme == "s3":
            return _s3(
                str(self.properties.get("s3.region", "")) or None,
                str(self.properties.get("s3.endpoint", "")) or None,
            )
        return super()._initialize_fs(scheme, netloc)


def file_io(region: str, endpoint: str | None) -> Mapping[str, str]:
    """The properties of a catalog that make it use `LakeFileIO`."""
    found = {"s3.region": region, "s3.endpoint": endpoint or ""}
    name = f"{LakeFileIO.__module__}.{LakeFileIO.__qualname__}"
    return {"py-io-impl": name, **{key: value for key, value in found.items() if value}}


@cache
def _s3(region: str | None, endpoint: str | None) -> S3FileSystem:
    """Safe for any number of threads; credentials are found, and renewed, by the SDK itself."""
    return S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # files below 5 MB: one request
    )
