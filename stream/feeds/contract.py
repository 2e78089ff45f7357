"""The types of a feed's contract: what its rows are, and what the platform promises about them.

One file per feed in this folder exports `CONTRACT`; `feeds.load_feeds` discovers them, nothing
is registered. A contract is data: columns, key, order, rules, and the message shapes that it
accepts. `decode` interprets the shapes, twice: columnar for whole slices, per record for what
the columnar path refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from stream.errors import ConfigError

PRICE = pa.decimal128(18, 8)
"""Exact to 8 decimals up to 9,999,999,999.99999999: what the supported venues publish. Stored as
INT64 in Parquet. A value with more decimals is rejected (`too_many_decimals`), never rounded."""


REASONS: Mapping[str, str] = {
    "empty_payload": "the Kinesis record holds no message",
    "line_too_long": "the message is longer than the contract's max_line_bytes",
    "invalid_utf8": "the message is not UTF-8",
    "malformed_json": "the message is not one JSON value",
    "nesting_too_deep": "objects and lists are nested deeper than any supported message",
    "duplicate_key": "an object names a key twice: which value is meant is unknowable",
    "unknown_shape": "valid JSON, but none of the feed's shapes and no ignored message",
    "missing_field": "a required value is absent or null",
    "wrong_type": "a value has another JSON type than the shape says (a number as a string)",
    "not_a_number": "NaN, Infinity or text where digits are expected",
    "too_many_decimals": "more decimals than the column keeps; never rounded",
    "out_of_range": "a number that the column cannot hold",
    "bad_time": "a time that does not exist, has no zone where one is due, or is out of range",
    "bad_value": "a value outside its enumeration, empty text, or values that contradict others",
    "unknown_venue": "no venue that the feed knows",
    "non_positive_price": "a price that is zero or negative",
    "non_positive_size": "a size that is zero or negative",
    "event_time_in_future": "the event lies further after its arrival than the contract tolerates",
}
"""Every reason code of a rejected message. Stable: quarantine rows and `redrive` name them."""


@dataclass(frozen=True, slots=True)
class Same:
    """As a field's default: take another column of the row, or the arrival ("ts_arrival_ns")."""

    column: str


@dataclass(frozen=True, slots=True)
class Pii:
    """That a column is personal data: what Silver keeps of it, and why (see `masking`).

    `hash`: a keyed hash, equal for equal values, so that rows still join. `redact`: only whether
    there was a value, for free text that may name anybody.
    """

    mask: Literal["hash", "redact"]
    why: str

    def __str__(self) -> str:
        return f"{self.mask}: {self.why}"


@dataclass(frozen=True, slots=True)
class Column:
    """One typed column of a feed's Silver table.

    `encode`: low-cardinality text, stored with a Parquet dictionary. `pii`: how it is masked
    before it gets there; None if it is no personal data.
    """

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False
    encode: bool = False
    pii: Pii | None = None


@dataclass(frozen=True, slots=True)
class VolumeBounds:
    """Rows per minute outside which a human should look, and why these numbers."""

    min_per_minute: int
    max_per_minute: int
    reason: str


@dataclass(frozen=True, slots=True)
class RejectLimit:
    """When rejects stop a shard instead of burying everything in quarantine.

    `share` of the last `over_rows` messages of a shard, or `run` rejected messages in a row.
    """

    share: float
    over_rows: int
    run: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A validity rule over decoded columns: `is_bad(rows)` gives a boolean mask (null = good).

    `rows` holds the contract's columns and `ts_arrival_ns`.
    """

    reason: str
    doc: str
    is_bad: Callable[[Mapping[str, pa.Array]], pa.Array]


@dataclass(frozen=True, slots=True)
class Field:
    """How one column is read from a message: a JSON path inside the row, and a value kind.

    `path` is relative to the shape's row ("price", "data.time"; list items by number: "0"; "*" is
    an object's only member, or the value itself: "price.*" reads {"$numberDecimal": "1.5"}).
    Alternatives are not tried: one shape, one path. `kind` names a value kind of `values.KINDS`.
    `options` is what that kind needs (the mapping of an `enum`, the value of a `const`).
    `default` fills in when the path is absent or null: a stored value, or `Same(column)`.
    Without it absence is null if `optional`, else `missing_field`.
    """

    path: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    default: Any = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """One message shape that a feed accepts.

    `where`: literal values that identify it, path -> allowed values (`{"type": ("match",)}`;
    the value None means "the path exists, whatever it holds").
    `rows`: path of the list that holds one row per item ("data", "1"); "" = the message is a row.
    `fields`: column -> Field; a path beginning with "$." is read from the message's root.
    """

    name: str
    where: Mapping[str, tuple[Any, ...] | None]
    fields: Mapping[str, Field]
    rows: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Messages that are no data: acknowledgements, heartbeats, snapshots. Counted under `name`."""

    name: str
    where: Mapping[str, tuple[Any, ...] | None]


@dataclass(frozen=True, slots=True)
class Contract:
    """Everything that is promised about one feed.

    `key` identifies a fact: two rows with the same key are one (`dedup`), within
    `dedup_minutes` of event time before arrival. `order` sorts rows inside a Silver file.
    `event_time` names the ns column that Silver is partitioned by (UTC day).
    `future_tolerance_ms`: how far an event may lie after its arrival before it is refused.
    `has_stream`: whether messages arrive through a stream; without, only extracts fill the feed.
    `calendar`: when its market trades (`sessions`): silence while it is closed is no lag.

    Raises: ConfigError for personal data in the key or the order (rows are told apart and sorted
    by what Silver holds) or in a column that is no text.
    """

    feed: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    order: tuple[str, ...]
    event_time: str
    freshness_seconds: int
    volume: VolumeBounds
    rejects: RejectLimit
    shapes: tuple[Shape, ...]
    ignored: tuple[Ignored, ...] = ()
    rules: tuple[Rule, ...] = ()
    dedup_minutes: int = 30
    future_tolerance_ms: int = 60_000
    max_line_bytes: int = 65_536
    has_bars: bool = False
    has_stream: bool = True
    calendar: str = "24/7"

    def __post_init__(self) -> None:
        for column in self.pii_columns:
            if column.name in (*self.key, *self.order, self.event_time):
                raise ConfigError(
                    f"feed {self.feed}: column {column.name!r} is personal data and part of the "
                    "key or the order. Choose an id that names nobody."
                )
            if not pa.types.is_string(column.type):
                raise ConfigError(
                    f"feed {self.feed}: column {column.name!r} is personal data of type "
                    f"{column.type}: only text can be masked"
                )

    @property
    def pii_columns(self) -> tuple[Column, ...]:
        """The columns that hold personal data: masked in Silver."""
        return tuple(column for column in self.columns if column.pii is not None)

    def column(self, name: str) -> Column:
        """The column of that name; KeyError names the feed if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"feed {self.feed} has no column {name!r}")

    @property
    def row_schema(self) -> pa.Schema:
        """Arrow schema of decoded rows, contract columns only."""
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns])

    @property
    def silver_schema(self) -> pa.Schema:
        """Arrow schema of the Silver table: contract columns, clocks and lineage."""
        return pa.schema([*self.row_schema, *LINEAGE])


LINEAGE = (
    pa.field("ts_event", pa.timestamp("us"), nullable=False),
    pa.field("ts_arrival_ns", pa.int64(), nullable=False),
    pa.field("is_late", pa.bool_(), nullable=False),
    pa.field("shard", pa.string(), nullable=False),
    pa.field("sequence_number", pa.string(), nullable=False),
    pa.field("line_no", pa.int32(), nullable=False),
    pa.field("slice_id", pa.string(), nullable=False),
)
"""Columns that every Silver table carries: partition time (UTC by contract), arrival, lateness
beyond the dedup horizon, and the way back to the exact source bytes."""
