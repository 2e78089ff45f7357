"""Where a user's files lie: a folder, one file, or a prefix of an object store, read only.

Names are relative to the place and sorted. A link that leads out of the folder is refused; one
that stays inside is passed over, because the file it leads to is read itself. Not here: what the
files hold (`files`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from stream.errors import ConfigError
from stream.lake.store import Store, open_store

MAX_WHOLE_BYTES = 256 << 20
"""What is read in one piece: files that cannot be cut, and objects of a store."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file by its name inside its place."""

    name: str
    bytes: int


class Place(Protocol):
    """A set of files."""

    root: str

    def files(self) -> list[FoundFile]:
        """All of them, in name order. Raises: ConfigError (no such place, no permission, a link
        that leads out), RetryableError (no answer).
        """
        ...

    def open(self, found: FoundFile) -> AbstractContextManager[BinaryIO]:
        """Read a file from its beginning. Raises: as `files`, and when it changed meanwhile."""
        ...


def open_place(
    where: str | Path, *, region: str = "us-east-1", endpoint: str | None = None
) -> Place:
    """A folder, a file, or `s3://bucket/prefix`. Raises: ConfigError for another scheme."""
    parts = urlsplit(str(where))
    if parts.scheme == "s3":
        return ObjectPlace(str(where), region, endpoint)
    if parts.scheme == "file":
        return LocalPlace(Path(unquote(parts.path)))
    if "://" in str(where):
        raise ConfigError(f"files {str(where)!r}: expected a folder, a file or s3://bucket/prefix")
    return LocalPlace(Path(where))


class LocalPlace:
    """A folder with all below it, or one file. Hidden files and folders are left alone."""

    def __init__(self, path: Path) -> None:
        self.root = str(path)
        self._is_file = path.is_file()
        self._folder = path.parent if self._is_file else path
        self._path = path

    def files(self) -> list[FoundFile]:
        if not self._path.exists():
            raise ConfigError(f"files {self.root}: no such file or folder")
        paths = [self._path] if self._is_file else self._walk()
        found = [
            FoundFile(path.relative_to(self._folder).as_posix(), path.stat().st_size)
            for path in paths
        ]
        return sorted(found, key=lambda file: file.name)

    def _walk(self) -> Iterator[Path]:
        home = self._folder.resolve()
        for folder, folders, names in os.walk(self._folder, onerror=self._refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in [*folders, *names]:
                path = Path(folder, name)
                if name.startswith("."):
                    continue
                if path.is_symlink():
                    _check_inside(path, home)
                elif name in names:
                    if not path.is_file():
                        raise ConfigError(f"files {path}: not a regular file; move it elsewhere")
                    yield path

    def _refuse(self, error: OSError) -> None:
        raise ConfigError(f"files {error.filename}: cannot be listed ({error.strerror})") from error

    @contextmanager
    def open(self, found: FoundFile) -> Iterator[BinaryIO]:
        path = self._folder / found.name
        try:
            # A link was refused or passed over when we looked: one that came since is not followed.
            flags = 0 if self._is_file else os.O_NOFOLLOW
            stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags), "rb")
        except OSError as error:
            raise ConfigError(f"files {path}: cannot be read ({error.strerror})") from error
        with stream:
            before = os.fstat(stream.fileno())
            yield stream
            after = os.fstat(stream.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ConfigError(
                f"files {path}: changed while it was read. Extract it when it is complete."
            )


def _check_inside(path: Path, home: Path) -> None:
    target = path.resolve()
    if not target.is_relative_to(home):
        raise ConfigError(
            f"files {path}: a link that leads out of the folder, to {target}. Copy what it leads "
            "to into the folder, or remove the link."
        )


class ObjectPlace:
    """A prefix of an object store, or one object whose name has a known ending."""

    def __init__(self, uri: str, region: str, endpoint: str | None) -> None:
        self.root = uri
        self._only = PurePosixPath(urlsplit(uri).path).name if _names_object(uri) else None
        folder = uri.removesuffix(f"/{self._only}") if self._only else uri
        self._store: Store = open_store(folder, region=region, endpoint=endpoint)

    def files(self) -> list[FoundFile]:
        found = [
            FoundFile(info.path, info.bytes)
            for info in self._store.list("")
            if self._only in {None, info.path}
            and not any(part.startswith(".") for part in info.path.split("/"))
        ]
        return sorted(found, key=lambda file: file.name)

    @contextmanager
    def open(self, found: FoundFile) -> Iterator[BinaryIO]:
        if found.bytes > MAX_WHOLE_BYTES:
            raise ConfigError(
                f"{self._store.uri(found.name)}: {found.bytes:,} bytes; an object is read in one "
                f"piece, at most {MAX_WHOLE_BYTES:,}. Cut it, or copy it to a folder first."
            )
        data = self._store.get(found.name)
        if data is None or len(data) != found.bytes:
            raise ConfigError(
                f"{self._store.uri(found.name)}: changed while it was read. Extract it when it is "
                "complete."
            )
        yield io.BytesIO(data)


def _names_object(uri: str) -> bool:
    name = PurePosixPath(urlsplit(uri).path).name
    return name.removesuffix(".gz").endswith((".json", ".jsonl", ".ndjson", ".csv", ".parquet"))
