"""MongoDB as a source: the documents of a portfolio's books, exactly, as canonical Extended JSON.

    database ─▶ find, sorted by the cursor field ─▶ one document a line ─▶ parts (jsonl.gz)

A run reads what lies after a position (option `after`) and before a bound that is behind the
clock by `settle_seconds`: what was written a moment ago may still become visible out of order,
and belongs to the next run. `highest_of` reads the next `after` from a finished run's manifest.
So runs, one after another, hold every document (by `_id`) or every version that was current when
it was read (by `updated_at`, the default) once. A connection that breaks is opened again behind
the last document read. A process that dies leaves no manifest; the run is run again.

Guarantees: bounded memory (one part and one batch); no URI, user or password in an error, a log
or an object. Assumptions: the cursor field has an index and one BSON type; `updated_at` is set
by every write; `_id`s that are no ObjectIds grow with insertion. Deletions are not seen.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr

from batch.extracts import ExtractRequest, Part
from batch.extracts.mongo_query import (
    Window,
    check_one_type,
    midnight,
    read_ends,
    read_options,
    to_line,
)
from stream.clock import SYSTEM_CLOCK, Clock, to_utc
from stream.errors import ConfigError, PipelineError, RetryableError
from stream.sources.extract import Manifest

DATASETS = ("transactions", "positions")
PART_DOCUMENTS = 20_000
PART_BYTES = 16 << 20
BATCH_DOCUMENTS = 1_000
SETTLE_SECONDS = 60
"""A write's time is set before it is visible: longer than any transaction may take."""
ATTEMPTS = 5


class MongoExtractor:
    """The collections `transactions` and `positions` of one database.

    Args: uri: `mongodb://…`, with its password. settle_seconds: how far the bound is behind the
    clock. connect: how a client is made (tests).
    """

    source = "mongo"

    def __init__(
        self,
        uri: SecretStr,
        database: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        part_documents: int = PART_DOCUMENTS,
        part_bytes: int = PART_BYTES,
        batch_documents: int = BATCH_DOCUMENTS,
        settle_seconds: int = SETTLE_SECONDS,
        server_seconds: float = 10.0,
        connect: Callable[[str], Any] | None = None,
    ) -> None:
        check_driver()
        if not database or set(database) & set('/\\. "$'):
            raise ConfigError(f"MongoDB: database {database!r}: expected a database's name")
        self._uri = uri
        self._database = database
        self._clock = clock
        self._part_documents = part_documents
        self._part_bytes = part_bytes
        self._batch_documents = batch_documents
        self._settle = timedelta(seconds=settle_seconds)
        self._connect = connect or _connector(server_seconds)

    def feed_of(self, dataset: str) -> str:
        """A collection is named like the feed it fills."""
        if dataset not in DATASETS:
            raise ConfigError(f"MongoDB: no data set {dataset!r}; there are {', '.join(DATASETS)}")
        return dataset

    def mapping_of(self, dataset: str) -> Mapping[str, object]:
        """Documents are JSON and need none."""
        self.feed_of(dataset)
        return {}

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        """The documents of the request's window, in cursor order."""
        name = self.feed_of(request.dataset)
        cursor, after, limit = read_options(request.options)
        client = self._client()
        try:
            collection = self._collection(client, name)
            window = Window(cursor, after, {}, request.symbols, limit)
            bounds = self._retry(name, lambda: self._bounds(collection, window, request))
            if bounds is not None:
                yield from self._parts(collection, name, replace(window, bounds=bounds))
        finally:
            client.close()

    def _client(self) -> Any:
        from pymongo.errors import PyMongoError  # noqa: PLC0415 - an optional dependency

        try:
            return self._connect(self._uri.get_secret_value())
        except (PyMongoError, ValueError, TypeError, UserWarning) as error:
            raise ConfigError(
                f"MongoDB: the URI cannot be used ({type(error).__name__}): expected "
                "mongodb://USER:PASSWORD@host:port/?options, "  # pragma: allowlist secret
                "user and password percent-encoded"
            ) from None

    def _collection(self, client: Any, name: str) -> Any:
        from bson.codec_options import CodecOptions, DatetimeConversion  # noqa: PLC0415

        # Times stay numbers: Python's datetime ends in the year 9999, BSON's does not.
        options: CodecOptions[dict[str, Any]] = CodecOptions(
            datetime_conversion=DatetimeConversion.DATETIME_MS
        )
        return client.get_database(self._database).get_collection(name, codec_options=options)

    def _bounds(
        self, collection: Any, window: Window, request: ExtractRequest
    ) -> Mapping[str, Any] | None:
        """Conditions on the cursor field; None when there is nothing at all."""
        from bson import ObjectId  # noqa: PLC0415

        ends = {name: read_ends(collection, name) for name in dict(window.sort)}
        if ends["_id"] is None:
            return None
        for name, found in ends.items():
            check_one_type(request.dataset, name, found)
        first, until = self._days(request)
        if window.cursor == "updated_at":
            return {"$gte": first, "$lt": until} if first else {"$lt": until}
        newest = ends["_id"][1]
        if isinstance(newest, ObjectId):
            bounds = {"$lt": ObjectId.from_datetime(until)}
            return bounds | ({"$gte": ObjectId.from_datetime(first)} if first else {})
        if request.first_day or request.last_day:
            raise ConfigError(
                f"MongoDB {request.dataset}: its _id is a {type(newest).__name__} and holds no "
                "time; leave the days out or use the option cursor=updated_at"
            )
        return {"$lte": newest}

    def _days(self, request: ExtractRequest) -> tuple[datetime | None, datetime]:
        """The request's days as moments, ended by what may still be settling."""
        until = to_utc(self._clock.now_ns()).replace(tzinfo=None) - self._settle
        if request.last_day is not None:
            until = min(until, midnight(request.last_day) + timedelta(days=1))
        return midnight(request.first_day) if request.first_day else None, until

    def _parts(self, collection: Any, name: str, window: Window) -> Iterator[Part]:
        lines: list[bytes] = []
        size, first = 0, None
        for document in self._documents(collection, name, window):
            lines.append(to_line(document))
            size += len(lines[-1]) + 1
            first, last = first or document, document
            if len(lines) == self._part_documents or size >= self._part_bytes:
                yield _part(name, window, lines, first, last)
                lines, size, first = [], 0, None
        if first is not None:
            yield _part(name, window, lines, first, last)

    def _documents(self, collection: Any, name: str, window: Window) -> Iterator[Mapping[str, Any]]:
        """Documents in order; goes on behind the last one if the connection breaks."""
        seen, failures = 0, 0
        while window.limit is None or seen < window.limit:
            left = 0 if window.limit is None else window.limit - seen
            found = collection.find(window.query).sort(window.sort).limit(left)
            documents = iter(found.batch_size(self._batch_documents))
            while True:
                try:
                    document = next(documents, None)
                except _failures() as error:
                    failures += 1
                    self._wait_or_raise(name, error, failures)
                    break
                if document is None:
                    return
                window = replace(window, after=window.position_of(document))
                seen, failures = seen + 1, 0
                yield document

    def _retry(self, name: str, call: Callable[[], Any]) -> Any:
        failures = 0
        while True:
            try:
                return call()
            except _failures() as error:
                failures += 1
                self._wait_or_raise(name, error, failures)

    def _wait_or_raise(self, name: str, error: Exception, failures: int) -> None:
        """Wait if the same call may succeed later; otherwise say what to do, without secrets."""
        explained = explain(name, error)
        if isinstance(explained, ConfigError) or failures >= ATTEMPTS:
            raise explained from None
        self._clock.sleep(min(2.0**failures, 30.0))


def _part(
    name: str,
    window: Window,
    lines: list[bytes],
    first: Mapping[str, Any],
    last: Mapping[str, Any],
) -> Part:
    request = {
        "collection": name,
        "cursor": window.cursor,
        "first": to_line(window.position_of(first)).decode(),
        "last": to_line(window.position_of(last)).decode(),
    }
    return Part(gzip.compress(b"\n".join(lines) + b"\n", mtime=0), "jsonl.gz", len(lines), request)


def highest_of(manifest: Manifest) -> str | None:
    """The position that a run reached: the next run's option `after`. None if there is nothing.

    A run that found nothing new hands on where it began.
    """
    if manifest.parts:
        return manifest.parts[-1].request["last"]
    return manifest.parameters.get("after")


def explain(name: str, error: Exception) -> PipelineError:
    """What a driver's error means for the caller. Its text is left out: it may name the user."""
    from pymongo.errors import ConfigurationError, OperationFailure  # noqa: PLC0415

    kind = type(error).__name__
    code = getattr(error, "code", None)
    what = f"MongoDB {name}: {kind}{f' (code {code})' if code else ''}"
    if code in _REFUSED:
        return ConfigError(f"{what}: access refused. Check user, password and its `read` role.")
    if code == _SORT_TOO_LARGE:
        return ConfigError(
            f"{what}: the server cannot sort so much without an index. Create one on "
            "{updated_at: 1, _id: 1}."
        )
    if isinstance(error, ConfigurationError):
        return ConfigError(f"{what}: the URI's options do not fit the server. Check the URI.")
    if isinstance(error, OperationFailure) and not _is_passing(error):
        return ConfigError(f"{what}: the server refused the query. Look the code up in its log.")
    return RetryableError(
        f"{what}: the server did not answer {ATTEMPTS} times in a row. Nothing is lost: run the "
        "extract again when it is back."
    )


_REFUSED = {13, 18, 8000}
_SORT_TOO_LARGE = 292
_CURSOR_LOST = {43, 136, 237}
"""CursorNotFound, CappedPositionLost, CursorKilled: the query is asked again."""


def _is_passing(error: Any) -> bool:
    has_label = error.has_error_label("RetryableReadError") or error.has_error_label(
        "TransientTransactionError"
    )
    return bool(has_label or error.code in _CURSOR_LOST or error.timeout)


def _failures() -> tuple[type[Exception], ...]:
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    return (PyMongoError,)


def _connector(server_seconds: float) -> Callable[[str], Any]:
    def connect(uri: str) -> Any:
        from pymongo import MongoClient  # noqa: PLC0415

        with warnings.catch_warnings():
            # A warning quotes the option that it is about, which in a URI with an unescaped
            # password is a piece of it.
            warnings.simplefilter("error", UserWarning)
            return MongoClient(
                uri,
                appname="headrace",
                serverSelectionTimeoutMS=int(server_seconds * 1_000),
                connectTimeoutMS=int(server_seconds * 1_000),
                readConcernLevel="majority",  # never what a fail-over may roll back
            )

    return connect


def check_driver() -> None:
    """Raises: ConfigError when pymongo is not installed."""
    try:
        import pymongo  # noqa: F401, PLC0415
    except ImportError:
        raise ConfigError(
            "MongoDB needs the driver: install headrace[mongo] (pip install 'headrace[mongo]')"
        ) from None
