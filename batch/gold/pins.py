"""Pins: the state of every Silver table that one build of Gold reads, and what is new in it.

Taken once at the start of a build and handed to dbt's process: every model and every test of the
build sees the same rows, whatever is committed or compacted meanwhile. `number` is the ledger
entry that the pinned snapshot holds, `after` the one that the slot was built from before.
Not here: what dbt does with them (`silver_plugin`), the days that follow (`days`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import orjson
import pyarrow as pa

from stream.bars import BARS
from stream.bars import TABLE as BARS_TABLE
from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.lake.connect import Lake
from stream.lake.entries import HEAD, NUMBER, Entry
from stream.lake.ledger import open_ledger


@dataclass(frozen=True, slots=True)
class Pin:
    """One table's state. `snapshot_id` None: it has no rows yet. Numbers: of ledger entries."""

    snapshot_id: int | None
    number: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Pins:
    """Pins by table; a table that does not exist yet has none and reads as empty."""

    tables: Mapping[str, Pin]

    def to_bytes(self) -> bytes:
        """As JSON."""
        return orjson.dumps({name: asdict(pin) for name, pin in self.tables.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read `to_bytes` back. Raises: ValueError or TypeError if it is something else."""
        return cls({name: Pin(**raw) for name, raw in orjson.loads(data).items()})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises: ConfigError for a file that is missing or no pins."""
        try:
            return cls.from_bytes(path.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} holds no pins of Silver: {error}") from error

    @property
    def numbers(self) -> dict[str, int]:
        """The ledger entry of each feed that a build of these pins includes."""
        return {name: pin.number for name, pin in self.tables.items() if name != BARS_TABLE}


def silver_schemas() -> dict[str, pa.Schema]:
    """The columns of every table that models read, whether it exists or not."""
    feeds = {name: contract.silver_schema for name, contract in load_feeds().items()}
    return {**feeds, BARS_TABLE: BARS}


def take_pins(lake: Lake, after: Mapping[str, int]) -> Pins:
    """Pin every table of a feed, and the bars.

    Args: after: per feed the entry up to which the slot is built; absent: nothing of it is.
    """
    pins = {}
    for name in sorted(silver_schemas().keys() & set(lake.catalog.names())):
        table = lake.catalog.open(name)  # one read: snapshot and number belong together
        number = int(table.properties.get(NUMBER, "0"))
        pins[name] = Pin(table.snapshot_id, number, min(after.get(name, 0), number))
    return Pins(pins)


def read_new_entries(lake: Lake, name: str, pin: Pin) -> Sequence[Entry]:
    """The ledger entries of a feed that the slot does not include yet, oldest first."""
    table = lake.catalog.open(name)
    if name == BARS_TABLE or HEAD not in table.properties or pin.after >= pin.number:
        return ()
    entries = open_ledger(name, table, lake.store).entries(pin.after)
    return [entry for entry in entries if entry.number <= pin.number]
