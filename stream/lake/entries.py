"""What the ledger's entries hold: slices with counts and hashes, gaps, rewrites, positions. Pure.

An entry is one JSON object, named by its content; reading it back gives the same entry, and
entries of older versions stay readable for ever. Not here: the chain and the commit (`ledger`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

from stream.lake.closed import parse_position
from stream.slices import ShardPosition, ShardRef, slice_id

POSITIONS = "headrace.positions"
HEAD = "headrace.ledger.head"
NUMBER = "headrace.ledger.number"


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object that a slice wrote."""

    path: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class SliceRecord:
    """What the ledger remembers of a slice: its place, its counts, its objects.

    `messages` = decoded + ignored + rejected messages; `silver_rows` + `duplicates` = decoded
    rows that passed the contract. `bronze` is None for the empty slice that ends a shard.
    """

    shard: ShardRef
    prev: str | None
    first: str | None
    last: str | None
    rows: int
    payload_bytes: int
    arrival_ns: tuple[int, int]
    ends_shard: bool = False
    bronze: ObjectRef | None = None
    silver: tuple[ObjectRef, ...] = ()
    quarantine: ObjectRef | None = None
    messages: int = 0
    silver_rows: int = 0
    duplicates: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    event_ns: tuple[int, int] = (0, 0)

    @property
    def slice_id(self) -> str:
        """The id that Silver and quarantine rows of this slice carry."""
        return slice_id(self.shard, self.first if self.rows else None)


@dataclass(frozen=True, slots=True)
class GapRecord:
    """Records that the source no longer held: named, never silent."""

    shard: ShardRef
    after: str | None
    first_kept: str | None
    reason: str

    @property
    def kind(self) -> str:
        """In a word, of `telemetry.catalogue.GAP_REASONS`: a shard that is gone keeps no record."""
        return "shard_removed" if self.first_kept is None else "retention"


@dataclass(frozen=True, slots=True)
class Redriven:
    """Messages of one quarantine object that a later decoder accepted, and what they became.

    `messages` of them left the quarantine, `ignored` of these as no data; `keys` are their
    (record_no, line_no).
    """

    quarantine: str
    slice_id: str
    messages: int
    silver_rows: int
    duplicates: int
    ignored: int = 0
    silver: tuple[ObjectRef, ...] = ()
    keys: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Data files that a commit took out of the table and the files that hold their rows now.

    The receipt: `rows` and `digest` (of the rows as a multiset) are those of the rows that stay,
    counted in `removed` before and in `written` after. A replay's replaced rows and those that
    retention drops are in `removed` only.
    """

    removed: tuple[str, ...]
    written: tuple[ObjectRef, ...] = ()
    rows: int = 0
    digest: str = ""


Kind = Literal["start", "slices", "redrive", "replay", "compact", "retention", "close"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry.

    `slices` of a "replay" supersede the older records of the same slices, and what was redriven
    of them (`history`). `rewrites`: data files that left the table. `dropped`: rows per slice
    that retention removed. `parents`: of the shards whose first slice is in this entry.
    `event_spans`: the event times (ns, both ends included) of a replay's old and new rows.
    """

    feed: str
    number: int
    previous: str | None
    kind: Kind
    committed_ms: int
    positions: Mapping[str, ShardPosition]
    slices: tuple[SliceRecord, ...] = ()
    gaps: tuple[GapRecord, ...] = ()
    redriven: tuple[Redriven, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    event_spans: tuple[tuple[int, int], ...] = ()

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry:
        """Read an entry back. Raises: ValueError, KeyError or TypeError if it is not one."""
        raw = orjson.loads(data)
        if not (isinstance(raw, dict) and isinstance(raw.get("positions"), dict)):
            raise TypeError("a ledger entry is an object with positions by shard")
        return cls(
            feed=raw["feed"],
            number=raw["number"],
            previous=raw["previous"],
            kind=raw["kind"],
            committed_ms=raw["committed_ms"],
            positions={shard: parse_position(value) for shard, value in raw["positions"].items()},
            slices=tuple(_slice_record(item) for item in raw["slices"]),
            gaps=tuple(
                GapRecord(**{**item, "shard": ShardRef(**item["shard"])}) for item in raw["gaps"]
            ),
            redriven=tuple(_redriven(item) for item in raw["redriven"]),
            rewrites=tuple(_rewrite(item) for item in raw.get("rewrites", ())),
            dropped=raw.get("dropped", {}),
            parents={s: tuple(names) for s, names in raw.get("parents", {}).items()},
            event_spans=tuple((low, high) for low, high in raw.get("event_spans", ())),
        )


@dataclass(frozen=True, slots=True)
class Head:
    """The committed state of a feed: the last entry's number and path, and every position."""

    number: int
    path: str | None
    positions: Mapping[str, ShardPosition]

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> Head:
        """Read it from a table's properties; number 0 if nothing was ever committed.

        Raises: ValueError, KeyError or TypeError if another tool has changed them.
        """
        raw = orjson.loads(properties.get(POSITIONS, "{}"))
        if not isinstance(raw, dict):
            raise TypeError(f"property {POSITIONS} is no object by shard")
        positions = {shard: parse_position(value) for shard, value in raw.items()}
        return cls(int(properties.get(NUMBER, "0")), properties.get(HEAD), positions)

    def properties(self) -> dict[str, str]:
        """As table properties."""
        raw = {shard: asdict(position) for shard, position in self.positions.items()}
        return {
            POSITIONS: orjson.dumps(raw, option=orjson.OPT_SORT_KEYS).decode(),
            HEAD: self.path or "",
            NUMBER: str(self.number),
        }


def _object(raw: Mapping[str, Any] | None) -> ObjectRef | None:
    return ObjectRef(**raw) if raw else None


def _slice_record(raw: dict[str, Any]) -> SliceRecord:
    return SliceRecord(
        **{
            **raw,
            "shard": ShardRef(**raw["shard"]),
            "arrival_ns": tuple(raw["arrival_ns"]),
            "event_ns": tuple(raw["event_ns"]),
            "bronze": _object(raw["bronze"]),
            "quarantine": _object(raw["quarantine"]),
            "silver": tuple(ObjectRef(**item) for item in raw["silver"]),
        }
    )


def _rewrite(raw: dict[str, Any]) -> Rewrite:
    written = tuple(ObjectRef(**item) for item in raw["written"])
    return Rewrite(**{**raw, "removed": tuple(raw["removed"]), "written": written})


def _redriven(raw: dict[str, Any]) -> Redriven:
    return Redriven(
        **{
            **raw,
            "silver": tuple(ObjectRef(**item) for item in raw["silver"]),
            "keys": tuple((a, b) for a, b in raw["keys"]),
        }
    )
