"""The column mapping of a vendor's files: a small TOML, checked whole, made ready for a manifest.

    feed = "trades"
    [columns]             # message field = the vendor's column
    symbol = "Ticker"
    price = "Last Px"
    [constants]
    venue = "sim"
    [times.ts_event_ns]   # text with a format and a zone, or a number with a unit
    column = "Time"
    format = "%Y-%m-%d %H:%M:%S.%f"
    zone = "America/New_York"
    [csv]
    delimiter = ";"

Message fields are those of the feed's canonical shape. What `load_mapping` returns is plain data:
the manifest keeps it, and a replay reads nothing else, even when the TOML or the contract has
changed since. Not here: reading files (`files`), applying the mapping (`extract_columns`).
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stream.decode.values import KINDS
from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.feeds.contract import Contract, Field, Shape
from stream.sources.extract_times import AMBIGUOUS, UNITS, check_format

ENCODINGS = ("utf-8", "cp1252", "latin-1")
"""Those in which a newline is one byte that nothing else contains: files are cut at newlines."""

_SECTIONS = ("feed", "columns", "constants", "times", "csv")
_TIME_KEYS = ("column", "format", "zone", "ambiguous", "unit")
_CSV_KEYS = ("delimiter", "quote", "encoding", "header", "nulls")


def load_mapping(path: Path) -> dict[str, object]:
    """Read and check a mapping. Raises: ConfigError naming everything that is wrong with it."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"mapping {path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"mapping {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"mapping {path}: no TOML: {error}") from None
    return parse_mapping(raw, f"mapping {path}")


def parse_mapping(raw: Mapping[str, Any], name: str = "mapping") -> dict[str, object]:
    """A mapping from parsed TOML, checked. Raises: ConfigError, as `load_mapping`."""
    faults = _Faults()
    faults.unknown("", raw, _SECTIONS)
    contract = load_feeds().get(str(raw.get("feed")))
    if contract is None:
        faults.add("feed", raw.get("feed"), f"one of {', '.join(load_feeds())}")
        raise faults.error(name)
    shape = canonical_shape(contract)
    targets = message_fields(shape)
    fields: dict[str, dict[str, object]] = {}
    for section, read in (("columns", _column), ("constants", _constant), ("times", _time)):
        table = faults.table(section, raw.get(section, {}))
        for target, value in table.items():
            if target not in targets:
                faults.add(f"{section}.{target}", value, f"a field: {', '.join(targets)}")
            elif target in fields:
                faults.add(f"{section}.{target}", value, "each field once")
            else:
                fields[target] = read(f"{section}.{target}", targets[target], value, faults)
    missing = [target for target in _required(shape, targets) if target not in fields]
    if missing:
        faults.notes.append(f"no column, constant or time for {', '.join(missing)}")
    options = _csv(faults.table("csv", raw.get("csv", {})), faults)
    if faults.notes:
        raise faults.error(name)
    return {"feed": contract.feed, "fields": dict(sorted(fields.items())), "csv": options}


def plain_mapping(contract: Contract) -> dict[str, object]:
    """The mapping of files whose columns are named like the feed's own message fields."""
    shape = canonical_shape(contract)
    targets = message_fields(shape)
    required = _required(shape, targets)
    fields = {
        target: {"column": target, "as": _way(spec), "optional": target not in required}
        for target, spec in sorted(targets.items())
    }
    return {"feed": contract.feed, "fields": fields, "csv": {}}


def canonical_shape(contract: Contract) -> Shape:
    """The shape that messages made of columns have: the one called canonical, else the first."""
    named = [shape for shape in contract.shapes if shape.name == "canonical"]
    return named[0] if named else contract.shapes[0]


def message_fields(shape: Shape) -> dict[str, Field]:
    """The fields that a flat message of this shape may have, by their name in the message."""
    return {
        spec.path: spec
        for spec in shape.fields.values()
        if KINDS[spec.kind].reads in {"string", "scalar"} and spec.path and "." not in spec.path
    }


def _required(shape: Shape, targets: Mapping[str, Field]) -> list[str]:
    needed = {
        target for target, spec in targets.items() if spec.default is None and not spec.optional
    }
    return sorted(needed | (set(shape.where) & set(targets)))


def _way(spec: Field) -> str:
    return "text" if KINDS[spec.kind].reads == "string" else "scalar"


@dataclass(slots=True)
class _Faults:
    """Everything that is wrong, so that it is said at once."""

    notes: list[str] = field(default_factory=list)

    def add(self, key: str, found: object, expected: str) -> None:
        self.notes.append(f"{key}: found {found!r}, expected {expected}")

    def unknown(self, prefix: str, table: Mapping[str, Any], valid: tuple[str, ...]) -> None:
        for key in table:
            if key not in valid:
                self.notes.append(f"{prefix}{key}: no such key; valid: {', '.join(valid)}")

    def table(self, key: str, value: object) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        self.add(key, value, f"a table [{key}]")
        return {}

    def error(self, name: str) -> ConfigError:
        return ConfigError(f"{name}: " + "; ".join(self.notes))


def _column(key: str, spec: Field, value: object, faults: _Faults) -> dict[str, object]:
    if not isinstance(value, str) or not value:
        faults.add(key, value, "the name of a column")
    return {"column": value, "as": _way(spec)}


def _constant(key: str, spec: Field, value: object, faults: _Faults) -> dict[str, object]:
    kinds: tuple[type, ...] = (str,) if _way(spec) == "text" else (int, float, bool)
    is_odd = isinstance(value, float) and not math.isfinite(value)
    if not isinstance(value, kinds) or is_odd:
        faults.add(key, value, "text in quotes" if str in kinds else "a number or true, false")
    return {"constant": value}


def _time(key: str, spec: Field, value: object, faults: _Faults) -> dict[str, object]:
    table = faults.table(key, value)
    faults.unknown(f"{key}.", table, _TIME_KEYS)
    if spec.kind == "epoch_ns":
        way = "ns"
    elif "date" in spec.kind and _way(spec) == "text" and "time" not in spec.kind:
        way = "date"
    else:
        faults.notes.append(f"{key}: no time in ns and no date; give it under [columns]")
        return {}
    if not isinstance(table.get("column"), str):
        faults.add(f"{key}.column", table.get("column"), "the name of a column")
    _check_time(key, table, way, faults)
    return {"as": way, **table}


def _check_time(key: str, table: Mapping[str, Any], way: str, faults: _Faults) -> None:
    pattern, zone, unit = table.get("format"), table.get("zone"), table.get("unit")
    if pattern is not None:
        try:
            check_format(str(pattern))
        except ValueError as error:
            faults.notes.append(f"{key}.format: {pattern!r}: {error}")
    if unit is not None and (unit not in UNITS or way == "date" or pattern is not None):
        faults.add(f"{key}.unit", unit, f"one of {', '.join(UNITS)}, without a format, for ns")
    if zone is not None and not _is_zone(zone):
        faults.add(f"{key}.zone", zone, "a zone like America/New_York or UTC")
    if "ambiguous" in table and (table["ambiguous"] not in AMBIGUOUS or zone is None):
        faults.add(f"{key}.ambiguous", table["ambiguous"], f"one of {', '.join(AMBIGUOUS)}")
    has_own_zone = unit is not None or "%z" in str(pattern) or way == "date"
    if zone is not None and has_own_zone:
        faults.notes.append(
            f"{key}.zone: a unit, %z or a date has no zone of its own; leave it out"
        )
    if zone is None and pattern is not None and not has_own_zone:
        faults.add(f"{key}.zone", None, "the zone of the times, or %z in the format")


def _is_zone(zone: object) -> bool:
    try:
        ZoneInfo(str(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return isinstance(zone, str)


def _csv(table: Mapping[str, Any], faults: _Faults) -> dict[str, object]:
    faults.unknown("csv.", table, _CSV_KEYS)
    for key in ("delimiter", "quote"):
        sign = table.get(key, ",")
        if not isinstance(sign, str) or not re.fullmatch(r"[\t -~]", sign):
            faults.add(f"csv.{key}", sign, "one ASCII character")
    if table.get("encoding", "utf-8") not in ENCODINGS:
        faults.add("csv.encoding", table["encoding"], f"one of {', '.join(ENCODINGS)}")
    for key in ("header", "nulls"):
        texts = table.get(key, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            faults.add(f"csv.{key}", texts, "a list of texts")
    return dict(table)
