"""What one trace works with: the lake, options, what is open, what was found broken so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from stream.errors import ConfigError
from stream.feeds import load_feeds
from stream.feeds.contract import Contract
from stream.lake.catalog import LakeTable
from stream.lake.connect import Lake
from stream.lake.entries import HEAD
from stream.lake.pii_key import FILE
from stream.lake.sql import connect_sql
from stream.lake.store import Store
from stream.lineage.feed_ledger import FeedLedger
from stream.lineage.tree import Reads
from stream.masking import open_masker, row_mask
from stream.prove.proof import Difference
from stream.settings import Settings
from stream.sources.ledger import ExtractParts


@contextmanager
def explained() -> Iterator[None]:
    """A value that does not fit its column is the user's: one line, exit code 2."""
    try:
        yield
    except (duckdb.ConversionException, duckdb.BinderException) as error:
        raise ConfigError(" ".join(str(error).split("\n\nLINE")[0].split())) from None


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for. `limit`: so many items of each kind are looked at one by one, 0 =
    all; counts are always of all. `traces_all`: every row that the conditions name.
    """

    limit: int = 20
    goes_back: bool = True
    goes_forward: bool = True
    shows_personal: bool = False
    traces_all: bool = False

    def cap(self, count: int) -> int:
        """How many of so many items are looked at one by one."""
        return min(count, self.limit) if self.limit else count


class Scope:
    """Open handles and findings of one trace. Closes the SQL connection at its end."""

    def __init__(
        self,
        settings: Settings,
        lake: Lake,
        options: Options,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.lake = lake
        self.options = options
        self.progress = progress
        self.broken: list[Difference] = []
        self.notes: list[str] = []
        self.reads = Reads()
        self.parts = ExtractParts(lake.store)
        self.bad_files: set[str] = set()
        self._opened: set[str] = set()
        self._ledgers: dict[str, FeedLedger] = {}
        self._tables: dict[str, LakeTable] = {}
        self._masks: dict[str, Callable[[pa.Table], pa.Table] | None] = {}
        self._names: list[str] = []
        self._sql: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._sql is not None:
            self._sql.close()

    @property
    def store(self) -> Store:
        """The lake's objects."""
        return self.lake.store

    @property
    def sql(self) -> duckdb.DuckDBPyConnection:
        """DuckDB over the lake's files, opened at the first question."""
        if self._sql is None:
            zones = tuple(self.settings.zones.values())
            self._sql = connect_sql(self.settings.lake, self.settings.region, zones=zones)
        return self._sql

    def table_names(self) -> list[str]:
        """The tables of Silver that exist. Raises: ConfigError if there are none."""
        if not self._names:
            self._names = self.lake.catalog.names()
        if not self._names:
            raise ConfigError(
                f"the lake {self.settings.lake} has no tables yet: start a feed with `headrace run "
                "FEED`, or see it all with `headrace demo`."
            )
        return self._names

    def feeds(self) -> list[str]:
        """The feeds that were started."""
        return [name for name in self.table_names() if self.is_started(name)]

    def is_started(self, feed: str) -> bool:
        """Whether a feed has a ledger."""
        is_feed = feed in load_feeds() and feed in self.table_names()
        return is_feed and HEAD in self.table(feed).properties

    def ledger(self, feed: str) -> FeedLedger:
        """A feed's ledger. Raises: ConfigError if it was never started."""
        if feed not in self._ledgers:
            found = FeedLedger(self.lake, feed, self.broken, self.reads, self.progress)
            self._ledgers[feed], self._tables[feed] = found, found.table
        return self._ledgers[feed]

    def table(self, name: str) -> LakeTable:
        """A table of Silver, in one state for the whole trace."""
        if name not in self._tables:
            self._tables[name] = self.lake.catalog.open(name)
        return self._tables[name]

    def mask(self, contract: Contract) -> Callable[[pa.Table], pa.Table] | None:
        """What the road does to decoded rows; None: personal data, and this machine has no key."""
        feed = contract.feed
        if feed not in self._masks:
            self._masks[feed] = None
            if not contract.pii_columns:
                self._masks[feed] = row_mask(contract, None)
            elif self._has_key():
                with suppress(ConfigError):  # another lake's key
                    masker = open_masker(self.settings, self.lake, contract)
                    self._masks[feed] = row_mask(contract, masker)
        return self._masks[feed]

    def _has_key(self) -> bool:
        """Whether there is a key to read: the local platform would create one."""
        settings = self.settings
        is_named = settings.pii_key is not None or settings.pii_secret_id
        return bool(is_named) or (settings.home / FILE).exists()

    def hides(self, contract: Contract) -> bool:
        """Whether source bytes of a feed must not be shown."""
        return bool(contract.pii_columns) and not self.options.shows_personal

    def count_opened(self, paths: Iterable[str]) -> None:
        """Say that Silver files are read; each counts once."""
        self._opened.update(paths)
        self.reads.silver_files = len(self._opened)

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def break_link(
        self, kind: str, where: str, expected: object, found: object, advice: str
    ) -> None:
        """Name a broken link."""
        self.broken.append(Difference(kind, where, str(expected), str(found), advice))
