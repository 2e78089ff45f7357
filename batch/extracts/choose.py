"""Open the extractor of a source by its name, with what the settings know of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.extracts import Extractor
from batch.extracts.files import FilesExtractor
from batch.extracts.mapping import load_mapping
from batch.extracts.simulate import SimulatedExtractor
from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.settings import Settings, aws_endpoint

SOURCES = ("fmp", "mongo", "files", "simulated")


@contextmanager
def open_extractor(
    settings: Settings,
    source: str,
    dataset: str,
    *,
    path: str | None = None,
    mapping: Path | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[Extractor]:
    """The extractor of a source, closed at the end; safe to share between threads.

    Args: path: the folder, file or s3:// prefix of `files`; with it any other name of a source
    is a vendor's, under which its files are kept. mapping: TOML with the vendor's columns.

    Raises: ConfigError (no such source, no key, no path).
    """
    if path is not None:
        yield FilesExtractor(
            path,
            feed=dataset,
            mapping=load_mapping(mapping) if mapping else None,
            source=source,
            region=settings.region,
            endpoint=aws_endpoint("s3"),
        )
    elif source == "files":
        raise ConfigError("source files: say where they lie, e.g. --path history/ or s3://bucket/x")
    elif source == "simulated":
        yield SimulatedExtractor()
    elif source == "fmp":
        yield from _open_fmp(settings, clock)
    elif source == "mongo":
        yield _open_mongo(settings, clock)
    else:
        raise ConfigError(
            f"no source {source!r}; sources are: {', '.join(SOURCES)}. The files of any other "
            "vendor need --path."
        )


def _open_fmp(settings: Settings, clock: Clock) -> Iterator[Extractor]:
    from batch.aws.secret import fmp_api_key  # noqa: PLC0415 - boto3 only for those who ask
    from batch.extracts.fmp import FmpExtractor  # noqa: PLC0415
    from batch.extracts.http import CallRule  # noqa: PLC0415

    key = fmp_api_key(settings.fmp_api_key, settings.fmp_secret_id, settings.region)
    rule = CallRule(calls_per_minute=settings.fmp_calls_per_minute)
    with FmpExtractor(key, rule=rule, clock=clock) as extractor:
        yield extractor


def _open_mongo(settings: Settings, clock: Clock) -> Extractor:
    from batch.extracts.mongo import MongoExtractor  # noqa: PLC0415

    uri = settings.mongo_uri
    if uri is None and settings.mongo_secret_id is not None:
        from stream.lake.secret import read_secret  # noqa: PLC0415

        uri = read_secret(settings.mongo_secret_id, settings.region)
    if uri is None:
        raise ConfigError(
            "source mongo: set HEADRACE_MONGO_URI (mongodb://…) or HEADRACE_MONGO_SECRET_ID"
        )
    return MongoExtractor(uri, settings.mongo_database, clock=clock)
