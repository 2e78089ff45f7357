"""Extracts as they lie in Bronze: a manifest, and parts in the format that their source gave.

An extract is one run of one source: an API's answers, a database's documents, a vendor's files.
Its parts are written first, the manifest last: no manifest, no extract. The manifest's place
depends on the run alone and is written once, so two attempts of one run cannot both count.
Not here: fetching (`batch.extracts`), the formats (`extract_formats`), lanes (`extract_lanes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import orjson

from stream.errors import ConfigError, FatalError
from stream.lake.layout import BRONZE, ExtractManifestKey, ExtractPartKey
from stream.lake.store import Store, sha256


@dataclass(frozen=True, slots=True)
class PartRef:
    """One part of an extract.

    `suffix` names the format ("json", "jsonl", "jsonl.gz", "csv", "csv.gz", "parquet"). `rows`
    are items: elements of a JSON list, lines, CSV rows. `received_ms`: when it was received, the
    arrival time of its items. `request` says what was asked for,
    without secrets. `context`: facts that the items lack (the symbol that was asked for); if not
    empty, an item becomes the message `{"context": {...}, "item": <item>}`.
    """

    path: str
    suffix: str
    rows: int
    bytes: int
    sha256: str
    request: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)
    received_ms: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What makes parts an extract.

    `feed`: whose messages the items are; None for extracts that stay in Bronze. `extracted_ms`:
    when the run began. `first_day`, `last_day`: the range that
    was asked for, inclusive ISO days; None where the source has no days. `mapping`: how CSV or
    Parquet columns become messages (see `extract_formats`); empty for JSON.
    """

    source: str
    dataset: str
    feed: str | None
    run_id: str
    extracted_ms: int
    first_day: str | None
    last_day: str | None
    parameters: Mapping[str, str]
    parts: tuple[PartRef, ...]
    mapping: Mapping[str, object] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Items of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """Stored bytes of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def path(self) -> str:
        """Where it lies."""
        return ExtractManifestKey(self.source, self.run_id).path

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest back. Raises: ValueError, KeyError or TypeError if it is not one."""
        raw = orjson.loads(data)
        for part in raw["parts"]:
            ExtractPartKey.parse(part["path"])  # no other object is ever read as a part
        return cls(**{**raw, "parts": tuple(PartRef(**part) for part in raw["parts"])})


def read_manifest(store: Store, source: str, run_id: str) -> Manifest | None:
    """A run's manifest; None if the run never finished. Raises: FatalError for a damaged one."""
    path = ExtractManifestKey(source, run_id).path
    data = store.get(path)
    if data is None:
        return None
    try:
        return Manifest.from_bytes(data)
    except (ValueError, KeyError, TypeError) as error:
        raise FatalError(
            f"{path} is not a manifest ({type(error).__name__}: {error}). Restore it from the "
            "bucket's versions; its parts lie in Bronze under the same run_id."
        ) from error


def find_manifest(store: Store, run_id: str) -> Manifest:
    """The manifest of a run, named by its id or, where sources share one, by source/id.

    Raises: ConfigError naming the newest runs that exist when there is none, or several.
    """
    runs = list(list_runs(store))
    found = [key for key in runs if run_id in (key.run_id, f"{key.source}/{key.run_id}")]
    if len(found) > 1:
        names = ", ".join(f"{key.source}/{key.run_id}" for key in found)
        raise ConfigError(f"extract {run_id!r} is of several sources: name one of {names}")
    for key in found:
        manifest = read_manifest(store, key.source, key.run_id)
        if manifest is not None:
            return manifest
    known = ", ".join(sorted(key.run_id for key in runs)[-5:]) or "none yet"
    raise ConfigError(
        f"no extract {run_id!r}: an extract without a manifest never finished and does not "
        f"count. Runs that exist: {known}."
    )


def list_runs(store: Store) -> Iterator[ExtractManifestKey]:
    """Every finished run, by source and run id."""
    for folder in store.list_folders(BRONZE):
        for info in store.list(ExtractManifestKey.prefix(folder.removeprefix("source="))):
            yield ExtractManifestKey.parse(info.path)


def read_part(store: Store, part: PartRef) -> bytes:
    """A part's bytes, checked against its manifest.

    Raises: FatalError when it is missing, cut, or holds other bytes than the manifest says.
    """
    data = store.get(part.path)
    if data is None:
        raise FatalError(
            f"{part.path} is missing although its manifest names it. Restore it from the bucket's "
            "versions, or run the extract again under another run id."
        )
    digest = sha256(data)
    if digest != part.sha256:
        raise FatalError(
            f"{part.path} is not what its manifest says: {len(data)} bytes with sha256 "
            f"{digest[:16]}…, expected {part.bytes} bytes with {part.sha256[:16]}…. Restore it "
            "from the bucket's versions, or run the extract again under another run id."
        )
    return data
