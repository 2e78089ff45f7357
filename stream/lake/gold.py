"""Which build of Gold is published: one small record per build, created once, read by everybody.

    gold/target=<target>/builds/00000012.json      the highest number is the published build

Creating the record is the moment of publication: of two builds that finish at once, the second
finds its number taken and has published nothing. Locally a build is a DuckDB file in a folder of
its own (`slot`) that is never written again once its record exists.
Not here: how a build is made and audited (`batch.gold`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from stream.errors import FatalError
from stream.lake.layout import GoldBuildKey
from stream.lake.store import Store

_SLOT = re.compile(r"[a-z0-9][a-z0-9-]*")

DATABASE = "headrace"
"""The name of the DuckDB file, and so of its database."""


@dataclass(frozen=True, slots=True)
class GoldBuild:
    """A published build.

    `slot`: where its tables are: a local folder's name, or the colour of a schema. `numbers`: per
    feed the ledger entry up to which Silver is included. `project`: hash of dbt's code.
    `retired`: days that only Gold still has. `relations`: table name -> its schema.
    """

    number: int
    slot: str
    published_ms: int
    project: str
    numbers: Mapping[str, int]
    days: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    relations: Mapping[str, str] | None = None

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)

    @classmethod
    def from_bytes(cls, data: bytes) -> GoldBuild:
        """Read `to_bytes` back. Raises: ValueError, KeyError or TypeError if it is none."""
        raw = orjson.loads(data)
        if not _SLOT.fullmatch(raw["slot"]):  # it becomes a part of a path
            raise ValueError(f"slot {raw['slot'][:80]!r} is no name of a slot")
        return cls(**{**raw, "days": tuple(raw["days"]), "retired": tuple(raw["retired"])})


def read_published(store: Store, target: str) -> GoldBuild | None:
    """The published build of a target; None before the first."""
    numbers = build_numbers(store, target)
    return read_build(store, target, numbers[-1]) if numbers else None


def read_build(store: Store, target: str, number: int) -> GoldBuild | None:
    """One published build; None if there is none of that number (any more).

    Raises: FatalError for a record that no build wrote.
    """
    path = GoldBuildKey(target, number).path
    data = store.get(path)
    try:
        return GoldBuild.from_bytes(data) if data else None
    except (ValueError, KeyError, TypeError) as error:
        raise FatalError(
            f"{path} is no record of a build ({type(error).__name__}: {error}). Find out who "
            "wrote it; restore it from the bucket's versions, or delete it: the build before is "
            "published again."
        ) from error


def build_numbers(store: Store, target: str) -> list[int]:
    """The numbers of all builds whose records are kept, ascending."""
    paths = (info.path for info in store.list(GoldBuildKey.prefix(target)))
    return sorted(GoldBuildKey.parse(path).number for path in paths)


def publish(store: Store, target: str, build: GoldBuild) -> bool:
    """Make a build the published one; False: another one took its number, nothing happened."""
    return store.put_once(GoldBuildKey(target, build.number).path, build.to_bytes())


def slot_file(home: Path, slot: str) -> Path:
    """The DuckDB file of a local build."""
    return home / "gold" / slot / f"{DATABASE}.duckdb"
