"""What a run asks MongoDB for: options, the window between a position and a bound, and its order.

Not here: asking, and going on when the connection breaks (`mongo`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from stream.errors import ConfigError

CURSORS = ("updated_at", "_id")
OPTIONS = ("cursor", "after", "limit")


@dataclass(frozen=True, slots=True)
class Window:
    """What a run reads: after a position and up to a bound."""

    cursor: str
    after: Mapping[str, Any] | None
    bounds: Mapping[str, Any]
    symbols: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def sort(self) -> list[tuple[str, int]]:
        return [(name, 1) for name in dict.fromkeys((self.cursor, "_id"))]

    def position_of(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Where a document stands in this order."""
        return {name: document[name] for name, _ in self.sort}

    @property
    def query(self) -> dict[str, Any]:
        """The documents of the window that are still to be read."""
        clauses: list[dict[str, Any]] = [{self.cursor: dict(self.bounds)}] if self.bounds else []
        if self.symbols:
            clauses.append({"symbol": {"$in": list(self.symbols)}})
        if self.after is not None:
            value, last = self.after[self.cursor], self.after["_id"]
            later: dict[str, Any] = {self.cursor: {"$gt": value}}
            same = {self.cursor: value, "_id": {"$gt": last}}
            clauses.append(later if self.cursor == "_id" else {"$or": [later, same]})
        return {"$and": clauses} if clauses else {}


def to_line(document: Mapping[str, Any]) -> bytes:
    """A document as canonical Extended JSON: one line, every type and digit kept."""
    from bson import json_util  # noqa: PLC0415

    return json_util.dumps(
        document,
        json_options=json_util.CANONICAL_JSON_OPTIONS,
        ensure_ascii=False,  # escapes would be read one message at a time
        separators=(",", ":"),
    ).encode()


def read_options(
    options: Mapping[str, str],
) -> tuple[str, Mapping[str, Any] | None, int | None]:
    """Cursor field, position to go on behind, and limit. Raises: ConfigError naming all faults."""
    faults = [f"no option {key!r}" for key in options if key not in OPTIONS]
    cursor, limit = options.get("cursor", CURSORS[0]), options.get("limit", "1")
    if cursor not in CURSORS:
        faults.append(f"cursor: found {cursor!r}, expected one of {', '.join(CURSORS)}")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:19]) <= 2**31 - 1):
        faults.append(f"limit: found {limit!r}, expected a number of documents")
    after = _read_position(options["after"], cursor) if "after" in options else None
    if after is not None and not after:
        faults.append(
            f"after: found {options['after'][:120]!r}, expected the position of an earlier run "
            f"by {cursor}: an object with {' and '.join(dict.fromkeys((cursor, '_id')))}"
        )
    if faults:
        raise ConfigError(f"MongoDB: {'; '.join(faults)}; options are {', '.join(OPTIONS)}")
    return cursor, after, int(limit) if "limit" in options else None


def _read_position(text: str, cursor: str) -> Mapping[str, Any]:
    """A position; empty if it is none."""
    from bson import json_util  # noqa: PLC0415
    from bson.errors import BSONError  # noqa: PLC0415

    try:
        found = json_util.loads(text, json_options=json_util.JSONOptions(tz_aware=False))
    except (ValueError, TypeError, KeyError, BSONError, OverflowError):
        return {}
    if not isinstance(found, dict) or set(found) != {cursor, "_id"}:
        return {}
    is_time = isinstance(found[cursor], datetime)
    return found if is_time or cursor == "_id" else {}


def read_ends(collection: Any, name: str) -> tuple[Any, Any] | None:
    """The lowest and the highest value of a field; absent counts as None and is the lowest."""
    found = [list(collection.find({}).sort([(name, way)]).limit(1)) for way in (1, -1)]
    if not found[0] or not found[1]:
        return None
    return found[0][0].get(name), found[1][0].get(name)


def check_one_type(collection: str, name: str, ends: tuple[Any, Any] | None) -> None:
    """BSON orders by type first: ends of one type leave no room for another in between.

    Comparisons see one type alone, so documents of another would never be read.
    """
    assert ends is not None
    kinds = {type(end).__name__ for end in ends}
    is_time = kinds <= {"datetime", "DatetimeMS"}
    if len(kinds) > 1 or (name == "updated_at" and not is_time):
        raise ConfigError(
            f"MongoDB {collection}: {name} is {' and '.join(sorted(kinds))}, expected "
            f"{'a date in every document' if name == 'updated_at' else 'one type'}: others would "
            "never be read. Correct the documents, or use the option cursor="
            f"{'_id' if name == 'updated_at' else 'updated_at'}."
        )


def midnight(day: date) -> datetime:
    """A UTC day's beginning, as BSON's dates are read: naive."""
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001
