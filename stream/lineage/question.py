"""What a user asks about: an object, a slice, a record, a commit, or a row of a table. Pure.

    bronze/…  silver/…  quarantine/…  ledger/…     an object of the lake (or its s3:// address)
    STREAM/SHARD/FIRST                              a slice, as Silver's column slice_id says it
    [FEED/ or STREAM/]SHARD:SEQUENCE_NUMBER         a record
    FEED#NUMBER                                     a commit
    TABLE COLUMN=VALUE …                            a row

Not here: whether such a thing exists (`tracer`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from stream.errors import ConfigError
from stream.lake.sql import quote_name

KEY_FOLDERS = ("bronze", "silver", "quarantine", "ledger")
SYNTAX = (
    "Ask for an object (bronze/…, silver/…, quarantine/…, ledger/…), a slice id, "
    "SHARD:SEQUENCE_NUMBER, FEED#COMMIT, or TABLE COLUMN=VALUE …"
)
_ADDRESS = re.compile(r"(s3|file)://.+")
_COMMIT = re.compile(r"(?P<feed>[a-z][a-z0-9_]*)#(?P<number>\d{1,12})")
_RECORD = re.compile(r"((?P<origin>[A-Za-z0-9_.-]+)/)?(?P<shard>[A-Za-z0-9_.-]+):(?P<number>\d+)")
_SLICE = re.compile(r"(?P<stream>[A-Za-z0-9_.-]+)/(?P<shard>[A-Za-z0-9_.-]+)/(?P<first>\d+|end)")
_TABLE = re.compile(r"(?P<schema>(gold|silver)\.)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)")
_CONDITION = re.compile(r"(?P<column>[A-Za-z_][A-Za-z0-9_]*)(?P<op>>=|<=|=|>|<)(?P<value>.*)", re.S)


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """An object of the lake, by its path."""

    path: str


@dataclass(frozen=True, slots=True)
class SliceName:
    """A slice: `first` is its first sequence number; None for the slice that ends a shard."""

    stream: str
    shard: str
    first: str | None


@dataclass(frozen=True, slots=True)
class RecordName:
    """A record of a shard. `origin`: a feed, or a stream's identity; None if it was not said."""

    origin: str | None
    shard: str
    sequence_number: str


@dataclass(frozen=True, slots=True)
class CommitName:
    """A ledger entry of a feed."""

    feed: str
    number: int


@dataclass(frozen=True, slots=True)
class Condition:
    """`column op value`; the value is always bound, never a part of the SQL text."""

    column: str
    op: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.op}{self.value}"


@dataclass(frozen=True, slots=True)
class RowName:
    """Rows of a table. `schema` is "gold" or "silver" if the user said which."""

    table: str
    schema: str | None
    conditions: tuple[Condition, ...]


Question = ObjectKey | SliceName | RecordName | CommitName | RowName


def read_question(what: str, conditions: Sequence[str] = ()) -> Question:
    """Understand an argument of the command line. Raises: ConfigError with the forms that exist.

    >>> read_question("trades#17")
    CommitName(feed='trades', number=17)
    >>> read_question("shardId-000000000000:4951").sequence_number
    '4951'
    >>> str(read_question("trades", ["symbol=BTC"]).conditions[0])
    'symbol=BTC'
    """
    if not conditions:
        found = _read_key(what.strip())
        if found is not None:
            return found
    table = _TABLE.fullmatch(what.strip())
    if table is None:
        raise ConfigError(f"{what[:120]!r} names nothing of a lake. {SYNTAX}.")
    schema = (table["schema"] or "").rstrip(".") or None
    return RowName(table["name"], schema, tuple(_read_condition(word) for word in conditions))


def _read_key(what: str) -> Question | None:
    if _ADDRESS.fullmatch(what) or what.partition("/")[0] in KEY_FOLDERS:
        return ObjectKey(what)
    if found := _COMMIT.fullmatch(what):
        return CommitName(found["feed"], int(found["number"]))
    if found := _RECORD.fullmatch(what):
        return RecordName(found["origin"], found["shard"], found["number"])
    if found := _SLICE.fullmatch(what):
        first = None if found["first"] == "end" else found["first"]
        return SliceName(found["stream"], found["shard"], first)
    return None


def _read_condition(word: str) -> Condition:
    found = _CONDITION.fullmatch(word)
    if found is None:
        raise ConfigError(
            f"{word[:120]!r} is no condition: expected COLUMN=VALUE (also >=, <=, >, < in quotes), "
            "e.g. symbol=BTC-USD ts_event=2026-11-29T21:00"
        )
    return Condition(found["column"], found["op"], found["value"])


def condition_sql(
    conditions: Sequence[Condition], types: Mapping[str, str]
) -> tuple[str, list[object]]:
    """The conditions as SQL with one parameter each, over columns of these SQL types.

    Raises: ConfigError for a time that is none. A value that does not fit its column is the
    database's error: it says which.
    """
    terms, values = ["true"], list[object]()
    for item in conditions:
        kind = types[item.column]
        terms.append(f"{quote_name(item.column)} {item.op} CAST(? AS {kind})")
        values.append(_plain_time(item) if kind.startswith("TIMESTAMP") else item.value)
    return " AND ".join(terms), values


def _plain_time(condition: Condition) -> str:
    """A time as UTC without a zone: what tables hold."""
    try:
        moment = datetime.fromisoformat(condition.value)
    except ValueError:
        raise ConfigError(
            f"{condition}: {condition.value!r} is not an ISO time, e.g. 2026-11-29T21:00:00 (UTC)"
        ) from None
    plain = moment.astimezone(UTC) if moment.tzinfo else moment
    return plain.replace(tzinfo=None).isoformat(timespec="microseconds")
