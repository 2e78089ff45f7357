"""Objects: put once, put, get, list. The only use of an S3 client outside the emulator.

Backed by obstore (S3, a local folder, memory). `put_once` is the platform's only way to create
what must never change: exactly one of any number of writers creates the object. Zones may lie in
buckets of their own; callers see one lake of paths (`places`).
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, MemoryStore, S3Store

from stream.clock import SYSTEM_CLOCK
from stream.errors import ConfigError, PipelineError, StoreUnavailableError
from stream.lake.layout import TRANSIENT, ZONES
from stream.lake.places import Backend, Place, Places

_Read = TypeVar("_Read")

REQUEST_SECONDS = 30
"""For a whole request with its body: the largest slice (8 MB) needs 2 Mbit/s."""
RETRY_SECONDS = 30
"""No retry begins later than this: a store that takes calls and never answers costs a minute."""
RESEND_SECONDS = 5.0
"""So long we ask again where the client does not. A create whose answer was lost: the client cannot
know what happened, but an object with our bytes is there or not. Half a page of a listing."""

WHOLE_BYTES = 4_000_000
"""Up to this size `open` reads an object at once: a slice's Silver file."""
FOOTER_BYTES = 262_144
"""Read of the end of a larger one: the footer of a compacted Silver file."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as a listing shows it. `last_modified_ms` is by the store's clock."""

    path: str
    bytes: int
    last_modified_ms: int


class Store:
    """The lake's objects; every path is relative to the lake, wherever its zone lies.

    Raises on every call: ConfigError (no bucket, no permission, read-only folder, full disk),
    StoreUnavailableError (no answer: retry).
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.requests = {"put": 0, "get": 0, "list": 0, "delete": 0}
        """Calls so far, by kind. Counted without a lock: a count may be lost, for cost estimates
        that is nothing."""

    @property
    def root(self) -> str:
        """Where the lake itself lies: Silver, ledgers, and whatever has no place of its own."""
        return self.places.home.root

    def uri(self, path: str) -> str:
        """The absolute address of an object, as Iceberg stores it."""
        return self.places.uri(path)

    def relative(self, uri: str) -> str:
        """The path in this lake of an absolute address; a foreign address stays as it is."""
        return self.places.relative(uri)

    def put_once(self, path: str, data: bytes) -> bool:
        """Create an object; False if one exists already (whatever it holds).

        When the answer to a create is lost it is sent again; an object that is there by then and
        holds these very bytes counts as created.
        """
        backend, patience = self._backend_of(path), _Patience()
        while True:
            self.requests["put"] += 1
            try:
                obstore.put(backend, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return patience.tries > 0 and self.get(path) == data
            except (BaseError, OSError) as error:
                explained = self._explain("write", path, error)
                if not patience.may_help(backend, explained):
                    raise explained from error
            else:
                return True

    def put(self, path: str, data: bytes) -> None:
        """Create or replace an object. Only for names that contain their content's hash, and for
        copies that whoever reads them may see old or new (dbt's artifacts).
        """
        self.requests["put"] += 1
        try:
            obstore.put(self._backend_of(path), path, data, use_multipart=False)
        except (BaseError, OSError) as error:
            raise self._explain("write", path, error) from error

    def put_file(self, path: str, local: Path) -> None:
        """Create or replace an object from a file, in parts: for what need not be in memory."""
        self.requests["put"] += 1
        try:
            obstore.put(self._backend_of(path), path, local)
        except (BaseError, OSError) as error:
            raise self._explain("write", path, error) from error

    def get(self, path: str) -> bytes | None:
        """An object's bytes; None if it does not exist."""
        self.requests["get"] += 1
        try:
            return bytes(obstore.get(self._backend_of(path), path).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            if "NoSuchBucket" in str(error):  # S3 answers 404 for both
                raise self._explain("read", path, error) from error
            return None
        except (BaseError, OSError) as error:
            raise self._explain("read", path, error) from error

    def get_many(self, paths: list[str], threads: int = 8) -> Iterator[bytes | None]:
        """Objects in the order of `paths`, read in parallel, a bounded number ahead."""
        return _map_ahead(self.get, paths, threads)

    def open(self, path: str) -> ObjectFile | None:
        """An object to read here and there; None if it does not exist. One up to `WHOLE_BYTES` is
        read at once, of a larger one only its end: a Parquet file's footer.
        """
        self.requests["get"] += 1
        try:
            found = obstore.get(self._backend_of(path), path)  # its body comes when asked for
            size = int(found.meta["size"])
            if size <= WHOLE_BYTES:
                whole = bytes(found.bytes())
                return ObjectFile(lambda start, end: whole[start:end], size, whole)
            fetch: Callable[[int, int], bytes] = functools.partial(self._get_range, path)
            if isinstance(self._backend_of(path), S3Store) and not self._has_ranges(path):
                fetch = _spool(found)
        except (NotFoundError, FileNotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise self._explain("read", path, error) from error
            return None
        except (BaseError, OSError) as error:
            raise self._explain("read", path, error) from error
        return ObjectFile(fetch, size, fetch(max(size - FOOTER_BYTES, 0), size))

    def _has_ranges(self, path: str) -> bool:
        """Whether the store answers a part of an object with that part. S3 does, an emulator may
        send it whole, which the client refuses.
        """
        self.requests["get"] += 1
        try:
            obstore.get_range(self._backend_of(path), path, start=0, end=4)
        except BaseError as error:
            if "non-partial response" not in str(error):
                raise
            return False
        return True

    def open_many(self, paths: list[str], threads: int = 8) -> Iterator[ObjectFile | None]:
        """`open` in the order of `paths`, in parallel, a bounded number ahead."""
        return _map_ahead(self.open, paths, threads)

    def exists(self, path: str) -> bool:
        """Whether an object exists. On S3 a missing bucket says no as well: HEAD has no body."""
        return self.find(path) is not None

    def find(self, path: str) -> ObjectInfo | None:
        """An object as it is now; None if it does not exist (see `exists`)."""
        self.requests["get"] += 1
        try:
            return _info(obstore.head(self._backend_of(path), path))
        except (NotFoundError, FileNotFoundError):
            return None
        except (BaseError, OSError) as error:
            raise self._explain("look up", path, error) from error

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose path starts with the folder `prefix` (it ends with a slash)."""
        for place, folder in self.places.below(prefix):
            for info in self._list(place, folder):
                if prefix or self.places.of(info.path) is place:
                    yield info

    def list_folders(self, prefix: str) -> tuple[str, ...]:
        """Names of the folders directly under `prefix` (it ends with a slash)."""
        if prefix:
            return self._folders(self.places.of(prefix), prefix)
        found = ((place, name) for place in self.places for name in self._folders(place, ""))
        return tuple(sorted(name for place, name in found if self.places.of(name) is place))

    def find_strays(self) -> dict[str, str]:
        """Top folders that have a place of their own and still hold objects in the lake itself,
        where nothing looks for them; one object of each. One request, none without zones.
        """
        home, moved = self.places.home, self.places.folders
        if not moved:
            return {}
        found = [n for n in self._folders(home, "") if n in moved and n not in TRANSIENT]
        objects = ((name, next(self._list(home, f"{name}/"), None)) for name in found)
        return {name: f"{home.root}/{info.path}" for name, info in objects if info is not None}

    def delete(self, path: str) -> None:
        """Remove an object, if it is there. Bronze, Silver and ledger code never calls this."""
        self.requests["delete"] += 1
        try:
            obstore.delete(self._backend_of(path), path)
        except (NotFoundError, FileNotFoundError):
            return  # S3 does not tell either
        except (BaseError, OSError) as error:
            raise self._explain("delete", path, error) from error

    def _get_range(self, path: str, start: int, end: int) -> bytes:
        self.requests["get"] += 1
        try:
            return bytes(obstore.get_range(self._backend_of(path), path, start=start, end=end))
        except (BaseError, OSError) as error:
            raise self._explain("read", path, error) from error

    def _backend_of(self, path: str) -> Backend:
        return self.places.of(path).backend

    def _list(self, place: Place, prefix: str) -> Iterator[ObjectInfo]:
        patience, after = _Patience(), None
        while True:
            try:
                for page in obstore.list(place.backend, prefix.rstrip("/"), offset=after):
                    self.requests["list"] += 1
                    for item in page:
                        after = item["path"]
                        yield _info(item)
            except (BaseError, OSError) as error:
                explained = _explain("list", place, prefix, error)
                if not patience.may_help(place.backend, explained):
                    raise explained from error
            else:
                return

    def _folders(self, place: Place, prefix: str) -> tuple[str, ...]:
        patience = _Patience()
        while True:
            self.requests["list"] += 1
            try:
                found = obstore.list_with_delimiter(place.backend, prefix.rstrip("/"))
            except (BaseError, OSError) as error:
                explained = _explain("list", place, prefix, error)
                if not patience.may_help(place.backend, explained):
                    raise explained from error
            else:
                paths = found["common_prefixes"]
                return tuple(sorted(path.rstrip("/").rpartition("/")[2] for path in paths))

    def _explain(self, verb: str, path: str, error: Exception) -> PipelineError:
        return _explain(verb, self.places.of(path), path, error)


class ObjectFile(io.RawIOBase):
    """An object as a file that can be read at any place; its last bytes are at hand.

    Every read beyond those is a request: readers should ask for large pieces.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, tail: bytes) -> None:
        """`fetch`: bytes of the object from a start to an end. `tail`: the last of its `size`."""
        super().__init__()
        self._fetch = fetch
        self.size, self.tail = size, tail
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Raises: StoreUnavailableError, ConfigError, as `Store.get`."""
        start = self._at
        end = self.size if size is None or size < 0 else min(start + size, self.size)
        if start >= end:
            return b""
        known = self.size - len(self.tail)
        inside = self.tail[max(start - known, 0) : max(end - known, 0)]
        self._at = end
        return inside if start >= known else self._fetch(start, min(end, known)) + inside


def _spool(found: obstore.GetResult) -> Callable[[int, int], bytes]:
    """Let an object's body lie in an unnamed file here; returns how to read from it."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its last reader

    def fetch(start: int, end: int) -> bytes:
        return os.pread(file.fileno(), end - start, start)

    weakref.finalize(fetch, file.close)
    for chunk in found.stream():
        file.write(chunk)
    file.flush()
    return fetch


def _map_ahead(read: Callable[[str], _Read], paths: list[str], threads: int) -> Iterator[_Read]:
    step = threads * 4
    with ThreadPoolExecutor(threads, thread_name_prefix="get") as pool:
        for at in range(0, len(paths), step):
            yield from pool.map(read, paths[at : at + step])


class _Patience:
    """Waits before a request is sent again, and says whether that may help at all."""

    def __init__(self) -> None:
        self.tries = 0
        self._began, self._pause = SYSTEM_CLOCK.monotonic(), 0.05

    def may_help(self, backend: Backend, error: PipelineError) -> bool:
        """No: it is not over a network, another try would fail alike, or it lasts too long."""
        if not (isinstance(backend, S3Store) and isinstance(error, StoreUnavailableError)):
            return False
        if SYSTEM_CLOCK.monotonic() - self._began > RESEND_SECONDS:
            return False
        SYSTEM_CLOCK.sleep(self._pause)
        self._pause *= 2
        self.tries += 1
        return True


def _explain(verb: str, place: Place, path: str, error: Exception) -> PipelineError:
    where = f"cannot {verb} {place.root}/{path}"
    text = str(error)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError) or (
        # How listing says it, and how S3 does of one key among those to delete.
        any(sign in text for sign in ("status code: 403", "status code: 401", "AccessDenied"))
    ):
        return ConfigError(f"{where}: permission denied. Allow this role (or user) to {verb}.")
    if "NoSuchBucket" in text:
        return ConfigError(f"{where}: the bucket does not exist. `headrace up` creates it.")
    if "os error 28" in text:  # no mistake of the user: a restart goes on once there is room
        return StoreUnavailableError(
            f"{where}: the disk is full. Free space; nothing written so far is lost."
        )
    for sign, advice in _DISK_SIGNS.items():
        if sign in text:
            return ConfigError(f"{where}: {advice.format(setting=place.setting)}")
    return StoreUnavailableError(f"{where}: {text.splitlines()[0] if text else error!r}")


_DISK_SIGNS = {
    "os error 30": "the file system is read-only. Choose another {setting} or remount it.",
    "os error 13": "permission denied. Allow this user to write there.",
}


def open_store(
    uri: str,
    *,
    zones: Mapping[str, str] | None = None,
    region: str = "us-east-1",
    endpoint: str | None = None,
) -> Store:
    """Open a lake's root: `s3://bucket[/prefix]`, `file:///folder` or `memory://`.

    Args: zones: the roots of zones (`layout.ZONES`) that lie elsewhere, in the same forms.

    Raises: ConfigError for another scheme. Does not touch the network.
    """
    home = _open_place(uri, "HEADRACE_LAKE", region, endpoint)
    by_root, by_zone = {home.root: home}, {}
    for zone, root in (zones or {}).items():
        place = _open_place(root, f"HEADRACE_{zone.upper()}_LAKE", region, endpoint)
        by_zone[zone] = by_root.setdefault(place.root, place)
    folders = {folder: by_zone[zone] for folder, zone in ZONES.items() if zone in by_zone}
    return Store(Places(home, folders))


def _open_place(uri: str, setting: str, region: str, endpoint: str | None) -> Place:
    parts = urlsplit(uri)
    if parts.scheme == "memory":
        return Place(MemoryStore(), f"memory://{parts.netloc or 'lake'}", setting)
    if parts.scheme == "file":
        folder = Path(parts.path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot create the lake's folder {folder}: {error.strerror}. Choose another "
                f"{setting}, or make room or permissions there."
            ) from error
        return Place(LocalStore(folder), f"file://{folder}", setting)
    if parts.scheme == "s3" and parts.netloc:
        backend = _s3(parts.netloc, parts.path.strip("/"), region, endpoint)
        return Place(backend, uri.rstrip("/"), setting)
    raise ConfigError(f"lake {uri!r}: expected s3://bucket[/prefix] or file:///folder")


def _s3(bucket: str, prefix: str, region: str, endpoint: str | None) -> S3Store:
    local: dict[str, Any] = (
        {"endpoint": endpoint, "virtual_hosted_style_request": False} if endpoint else {}
    )
    is_plain = endpoint is not None and endpoint.startswith("http://")
    return S3Store(
        bucket,
        prefix=prefix or None,
        region=region,
        client_options={"timeout": f"{REQUEST_SECONDS}s", "allow_http": is_plain},
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        **local,
    )


def _info(item: Mapping[str, Any]) -> ObjectInfo:
    modified_ms = int(item["last_modified"].timestamp() * 1000)
    return ObjectInfo(item["path"], item["size"], modified_ms)


def sha256(data: bytes) -> str:
    """Hex digest, as the ledger records it."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(local: Path) -> str:
    """`sha256` of a file, without reading it whole."""
    with local.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create_bucket(uri: str, *, region: str, endpoint: str | None) -> None:
    """Create the lake's bucket if it is missing; nothing to do for a folder.

    Raises: ConfigError when the name is taken by someone else or creating is not allowed.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3":
        return
    import boto3  # noqa: PLC0415 - 0.3 s of import that only `up` needs
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    client = boto3.client("s3", region_name=region, endpoint_url=endpoint)
    elsewhere = (
        {}
        if region == "us-east-1"
        else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    )
    try:
        client.create_bucket(Bucket=parts.netloc, **elsewhere)
    except ClientError as error:
        if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise ConfigError(f"cannot create bucket {parts.netloc}: {error}") from error
    except BotoCoreError as error:
        raise StoreUnavailableError(f"cannot create bucket {parts.netloc}: {error}") from error
