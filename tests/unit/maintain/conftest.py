"""A small lake that compaction, replays, lost races and time wear down."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from batch.maintain.expire import ExpireReport, expire_snapshots
from batch.maintain.orphans import remove_orphans
from batch.maintain.sweep import OrphanReport
from stream.bars import TABLE as BARS_TABLE
from stream.clock import SYSTEM_CLOCK, ManualClock, to_utc
from stream.lake.catalog import StagedFile
from stream.lake.catalog_maintenance import References
from stream.lake.entries import ObjectRef, Rewrite
from stream.lake.history import SliceState, current_slices
from stream.lake.layout import LedgerKey, QuarantineKey, SilverKey
from stream.lake.ledger import Change
from stream.lake.store import sha256
from stream.silver import build_files

HOUR = 3_600


@dataclass
class WornLake:
    """A `SmallLake` (`small`) and what wears it: rewrites, replays, litter, time.

    Files get the age that the lake's manual clock says; snapshots carry the library's own time.
    """

    small: Any
    stamps: dict[Path, int] = field(default_factory=dict)
    litter: int = 0

    @property
    def store(self) -> Any:
        return self.small.lake.store

    def stamp(self) -> None:
        """Give every file that was written since the manual clock's time."""
        now = self.small.clock.now_ns()
        for path in Path(self.store.root.removeprefix("file://")).rglob("*"):
            if path.is_file() and path.stat().st_mtime_ns != self.stamps.get(path):
                os.utime(path, ns=(now, now))
                self.stamps[path] = now

    def pass_hours(self, hours: float) -> None:
        self.stamp()
        self.small.clock.sleep(hours * HOUR)

    def land(self, count: int = 20) -> None:
        self.small.land_trades(count)
        self.stamp()

    def tables(self) -> dict[str, pa.Table]:
        """The rows of each data file of the snapshot, by path."""
        self.small.table.refresh()
        paths = [self.store.relative(uri) for uri, _ in self.small.table.data_files()]
        return {path: pq.read_table(io.BytesIO(self.store.get(path))) for path in sorted(paths)}

    def rows(self) -> Counter[tuple[str, str]]:
        """Every row of the snapshot, by slice and trade."""
        return Counter(
            key
            for rows in self.tables().values()
            for key in zip(rows["slice_id"].to_pylist(), rows["trade_id"].to_pylist(), strict=True)
        )

    def states(self) -> dict[str, SliceState]:
        return current_slices(self.small.ledger.entries())

    def compact(self, first: int = 0, count: int = 1_000) -> bool:
        """Rewrite some files of the snapshot into one a day, as compaction does."""
        tables = dict(list(self.tables().items())[first : first + count])
        if len(tables) < 2:
            return False
        written, files = self._write(
            pa.concat_tables(tables.values()), lambda d, h: SilverKey("trades", d, "compacted", h)
        )
        if set(tables) & {ref.path for ref in written}:
            return False
        rewrite = Rewrite(tuple(tables), tuple(written))
        self._commit("compact", rewrite, files)
        return True

    def replay(self, number: int, *, is_reversed: bool) -> bool:
        """Make a slice's rows anew, as one decoder would or as another: two names for a slice."""
        state = list(self.states().values())[number]
        record = state.record
        tables = {
            path: rows
            for path, rows in self.tables().items()
            if pc.any(pc.equal(rows["slice_id"], record.slice_id)).as_py()
        }
        if not tables:
            return False
        rows = pa.concat_tables(tables.values())
        is_mine = pc.equal(rows["slice_id"], record.slice_id)
        mine = rows.filter(is_mine).sort_by(
            [("trade_id", "descending" if is_reversed else "ascending")]
        )
        silver, files = self._write(
            mine, lambda day, h: SilverKey.of_slice(record.shard, record.last, day, h)
        )
        others, other_files = self._write(
            rows.filter(pc.invert(is_mine)), lambda d, h: SilverKey("trades", d, "rest", h)
        )
        if set(tables) & {ref.path for ref in (*silver, *others)}:
            return False
        entry = replace(
            self.small.ledger.entry(self.small.ledger.head(), "replay"),
            slices=(replace(record, silver=tuple(silver)),),
            event_spans=(record.event_ns,),
        )
        self._commit("replay", Rewrite(tuple(tables), tuple(others)), files + other_files, entry)
        return True

    def _write(
        self, rows: pa.Table, name: Callable[[Any, str], SilverKey]
    ) -> tuple[list[ObjectRef], list[StagedFile]]:
        files = build_files(
            rows,
            self.small.table.arrow_schema,
            "ts_event_ns",
            lambda day, digest: name(day, digest[:16]),
            ["slice_id"],
        )
        written = [file.write(self.store) for file in files]
        return [ref for ref, _ in written], [staged for _, staged in written]

    def _commit(
        self, kind: Any, rewrite: Rewrite, files: Sequence[StagedFile], entry: Any = None
    ) -> None:
        ledger = self.small.ledger
        entry = replace(entry or ledger.entry(ledger.head(), kind), rewrites=(rewrite,))
        remove = [self.store.uri(path) for path in rewrite.removed]
        assert ledger.commit(lambda _: Change(entry, files, remove))
        if kind == "replay":
            self.small.bars.catch_up()
        self.stamp()

    def drop_litter(self) -> list[str]:
        """What lost races and crashes leave: a data file, rejects, an entry, metadata."""
        self.litter += 1
        shard, day = self.small.results[0].record.shard, to_day(self.small.arrival_ns)
        entry = replace(self.small.entries()[0], number=1, committed_ms=self.litter)
        digest = sha256(str(self.litter).encode())
        found = {
            SilverKey("trades", day, "lost", digest[:16]).path: b"data",
            QuarantineKey(shard, "1".zfill(56), day, digest[:16]).path: b"rejects",
            LedgerKey("trades", 1, sha256(entry.to_bytes())).path: entry.to_bytes(),
            f"{self.table_folder}metadata/00000-{digest[:16]}.metadata.json": b"{}",
            f"{self.table_folder}metadata/{digest[:16]}-m0.avro": b"manifest",
        }
        for path, data in found.items():
            self.store.put(path, data)
        self.stamp()
        return sorted(found)

    @property
    def table_folder(self) -> str:
        path = self.small.results[0].record.silver[0].path
        return path.partition("year=")[0]

    def expire(self, **options: Any) -> ExpireReport:
        """All but the newest snapshot, unless said otherwise."""
        clock = ManualClock(SYSTEM_CLOCK.now_ns() + 10 * HOUR * 10**9)
        chosen = {"keep_last": 1, "apply": True, "clock": clock, **options}
        return expire_snapshots(self.small.lake, "trades", **chosen)

    def sweep(self, table: str = "trades", **options: Any) -> OrphanReport:
        self.stamp()
        chosen = {"apply": True, "clock": self.small.clock, **options}
        return remove_orphans(self.small.lake, table, **chosen)

    def paths(self, prefix: str = "") -> set[str]:
        return {info.path for info in self.store.list(prefix)}

    def check_references(self) -> None:
        """Every object that any snapshot of a table names is there."""
        for name in ("trades", BARS_TABLE):
            named = References(self.small.lake.catalog.open(name)).read()
            missing = {self.store.relative(uri) for uri in named} - self.paths()
            assert not missing


def to_day(ns: int) -> Any:
    return to_utc(ns).date()


@pytest.fixture
def worn_lake(small_lake: Any) -> WornLake:
    return WornLake(small_lake)


@pytest.fixture
def open_worn_lake(open_lake: Callable[[Path], Any]) -> Callable[[Path], WornLake]:
    return lambda home: WornLake(open_lake(home))
