"""The committed record of a backfill: which days, why, who asked, how it ended.

One YAML file a backfill in `deploy/backfills/`, named like its id and reviewed like code. It says
what was decided; what was done is in the claims ledger. `plan` turns a record into the chunks
that it means, so a record can be run, and run again.
Not here: running it (`backfill`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from batch.backfill.plan import Chunk, plan_days, scope_of
from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError
from stream.feeds import load_feeds

FOLDER = Path("deploy/backfills")
STATUSES = ("planned", "running", "done", "abandoned", "example")
ENDED = ("done", "abandoned")
MIN_REASON_CHARS = 15

_HEADER = (
    "# A backfill, as it was decided: reviewed and committed like code. What was done is in the\n"
    "# claims ledger. Fields: batch/backfill/record.py.\n"
)


@dataclass(frozen=True, slots=True)
class BackfillRecord:
    """One record. `id` is the day of the request and a few words: `2026-11-25-late-prices`.

    `first_day`, `last_day`: inclusive, UTC. `version`, `chunk_days`, `symbols`, `options`: what
    the plan and the extract take. `path`: where files lie. `finished_on`: for those that ended.
    """

    id: str
    feed: str
    source: str
    dataset: str
    first_day: date
    last_day: date
    reason: str
    owner: str
    status: str
    requested_on: date
    finished_on: date | None = None
    version: int = 1
    chunk_days: int = 1
    symbols: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None

    @property
    def scope(self) -> str:
        """What its chunks depend on besides days."""
        path = {"path": self.path} if self.path else {}
        return scope_of(self.symbols, {**self.options, **path})

    def plan(self, clock: Clock = SYSTEM_CLOCK) -> list[Chunk]:
        """Its chunks. Raises: ConfigError for a range that cannot be planned."""
        return plan_days(
            self.source,
            self.dataset,
            self.first_day,
            self.last_day,
            chunk_days=self.chunk_days,
            version=self.version,
            scope=self.scope,
            clock=clock,
        )


def read_record(path: Path) -> BackfillRecord:
    """Read and check one record. Raises: ConfigError naming everything that is wrong with it."""
    raw = _load_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected fields ({', '.join(_kinds())}), found {raw!r}")
    wrong = _wrong_fields(raw)
    if not wrong:
        record = BackfillRecord(**{name: _kinds()[name].read(raw[name]) for name in raw})
        wrong = _wrong_together(record)
        if record.id != path.stem:
            wrong.append(f"id {record.id!r}: expected the file's name, {path.stem!r}")
    if wrong:
        raise ConfigError("\n".join(f"{path}: {line}" for line in wrong))
    return record


def read_records(folder: Path) -> list[BackfillRecord]:
    """All records of a folder, oldest first. Raises: ConfigError for all bad ones together."""
    records, wrong = [], []
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix != ".yaml":
                raise ConfigError(f"{path}: expected only records, ending in .yaml")
            records.append(read_record(path))
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(wrong))
    return records


def write_record(folder: Path, record: BackfillRecord) -> Path:
    """Write a new record; an existing one is never replaced. Raises: ConfigError."""
    path = folder / f"{record.id}.yaml"
    _check_record(path, record)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(_HEADER + _dump_yaml(record))
    except FileExistsError as error:
        raise ConfigError(f"{path} exists: choose other words for the id") from error
    return path


def mark_record(path: Path, status: str, on: date) -> BackfillRecord:
    """Change a record's status, and nothing else that somebody wrote. Raises: ConfigError."""
    before = read_record(path)
    after = replace(before, status=status, finished_on=on if status in ENDED else None)
    _check_record(path, after)
    text = re.sub(r"^finished_on:.*\n", "", path.read_text(), flags=re.M)
    end = f"\nfinished_on: {on}" if status in ENDED else ""
    text = re.sub(r"^status:.*$", f"status: {status}{end}", text, flags=re.M)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text)
    fresh.replace(path)
    return read_record(path)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a field may hold as YAML reads it, and how it becomes ours."""

    expected: str
    is_valid: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value


def _is_day(value: object) -> bool:
    return isinstance(value, date) and not isinstance(value, datetime)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_reason(value: object) -> bool:
    return isinstance(value, str) and len(value.strip()) >= MIN_REASON_CHARS


def _choice(values: Iterable[str]) -> _Kind:
    valid = tuple(values)
    return _Kind(f"one of {', '.join(valid)}", lambda value: value in valid)


_TEXT = _Kind("text", _is_text)
_DAY = _Kind("a day like 2026-11-24", _is_day)
_COUNT = _Kind("a whole number", lambda value: type(value) is int)
_SYMBOLS = _Kind(
    "a list of text (quote YES, NO and ON, which YAML takes for true and false)",
    lambda value: isinstance(value, list) and all(map(_is_text, value)),
    tuple,
)
_OPTIONS = _Kind(
    "text by name (quote numbers)",
    lambda value: (
        isinstance(value, dict) and all(isinstance(text, str) for text in (*value, *value.values()))
    ),
)
_OPTIONAL = {"finished_on", "version", "chunk_days", "symbols", "options", "path"}


@cache
def _kinds() -> dict[str, _Kind]:
    """Every field, in the order of a record."""
    return {
        "id": _TEXT,
        "feed": _choice(load_feeds()),
        **dict.fromkeys(("source", "dataset"), _TEXT),
        **dict.fromkeys(("first_day", "last_day"), _DAY),
        "reason": _Kind("a sentence that a reviewer can judge", _is_reason),
        "owner": _TEXT,
        "status": _choice(STATUSES),
        **dict.fromkeys(("requested_on", "finished_on"), _DAY),
        **dict.fromkeys(("version", "chunk_days"), _COUNT),
        "symbols": _SYMBOLS,
        "options": _OPTIONS,
        "path": _TEXT,
    }


def _wrong_fields(raw: Mapping[Any, Any]) -> list[str]:
    """What is wrong with each field by itself."""
    kinds = _kinds()
    wrong = [f"{name}: no such field ({', '.join(kinds)})" for name in raw if name not in kinds]
    for name, kind in kinds.items():
        if name not in raw:
            if name not in _OPTIONAL:
                wrong.append(f"{name}: missing, expected {kind.expected}")
        elif not kind.is_valid(raw[name]):
            wrong.append(f"{name}: expected {kind.expected}, found {raw[name]!r}")
    return wrong


def _wrong_together(record: BackfillRecord) -> list[str]:
    """What fields that are right by themselves get wrong together."""
    wrong = []
    if not re.fullmatch(rf"{record.requested_on}-[a-z0-9]+(-[a-z0-9]+)*", record.id):
        wrong.append(
            f"id {record.id!r}: expected the day of the request and a few words, like "
            f"{record.requested_on}-late-prices"
        )
    if (record.status in ENDED) != (record.finished_on is not None):
        wrong.append(f"finished_on: expected with status {' and '.join(ENDED)}, and only then")
    if record.finished_on and record.finished_on < record.requested_on:
        wrong.append(f"finished_on {record.finished_on}: before the request")
    return wrong + _wrong_plan(record)


def _check_record(path: Path, record: BackfillRecord) -> None:
    wrong = _wrong_fields(_as_yaml(record)) or _wrong_together(record)
    if wrong:
        raise ConfigError("\n".join(f"{path}: {line}" for line in wrong))


def _wrong_plan(record: BackfillRecord) -> list[str]:
    try:
        record.plan()
    except ConfigError as error:
        return str(error).splitlines()
    return []


def _load_yaml(path: Path) -> object:
    yaml = _yaml()
    try:
        return yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _as_yaml(record: BackfillRecord) -> dict[str, object]:
    """A record's fields as YAML has them, without those that say nothing."""
    values = {found.name: getattr(record, found.name) for found in fields(record)}
    values |= {"symbols": list(record.symbols), "options": dict(record.options)}
    return {name: value for name, value in values.items() if value not in (None, [], {})}


def _dump_yaml(record: BackfillRecord) -> str:
    return str(_yaml().safe_dump(_as_yaml(record), sort_keys=False, allow_unicode=True, width=100))


def _yaml() -> Any:
    try:
        import yaml  # noqa: PLC0415 - in an extra: only records need it
    except ImportError as error:
        raise ConfigError(
            "records of backfills are YAML, and pyyaml is not installed: "
            "`pip install headrace[prefect]`"
        ) from error
    return yaml
