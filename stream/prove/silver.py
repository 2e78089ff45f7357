"""Recount Silver: rows per slice, files against their hashes, keys that occur twice.

Counts do not depend on which file holds a row: compaction may have rewritten files, and then
only counts can be compared. A file that the ledger does not know is named when the counts do
not add up because of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import duckdb
import pyarrow as pa

from stream.feeds.contract import Contract
from stream.lake.entries import ObjectRef
from stream.lake.sql import file_path, parquet_source
from stream.lake.store import Store
from stream.prove.objects import Found, read_object
from stream.prove.proof import Difference, Proof

ROWS_PER_PASS = 5_000_000
SHOWN = 10
ADVICE_FILE = (
    "Restore it from the bucket's versions, or replay its slice: the same bytes get the same name."
)


@dataclass(slots=True)
class Expected:
    """What the ledger says about Silver: rows per slice of the range, the files that were
    written for them, files that maintenance wrote instead, and slices that were walked but lie
    outside the range.
    """

    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    files: dict[str, tuple[ObjectRef, str]] = field(default_factory=dict)
    rewritten: dict[str, ObjectRef] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    arrival_ns: tuple[int, int] | None = None
    is_whole: bool = True

    def add(self, slice_id: str, rows: int, files: Sequence[ObjectRef]) -> None:
        """Expect a slice's rows and the files that were written for them."""
        self.rows[slice_id] += rows
        for reference in files:
            self.files[reference.path] = (reference, slice_id)

    def cover(self, arrival_ns: tuple[int, int]) -> None:
        """Widen the arrival range that is counted."""
        low, high = self.arrival_ns or arrival_ns
        self.arrival_ns = (min(low, arrival_ns[0]), max(high, arrival_ns[1]))


class SilverCheck:
    """Compares one snapshot of a feed's table with what the ledger says."""

    def __init__(
        self,
        contract: Contract,
        schema: pa.Schema,
        snapshot: Sequence[str],
        *,
        store: Store,
        sql: duckdb.DuckDBPyConnection,
        proof: Proof,
    ) -> None:
        self._contract = contract
        self._schema = schema
        self._paths = [store.relative(address) for address in snapshot]
        self._store = store
        self._sql = sql
        self._proof = proof
        self._where = "true"
        self._has_broken_rewrite = False

    def check(self, expected: Expected, *, is_range: bool, threads: int) -> None:
        """Files, counts, doubles."""
        if is_range:
            low, high = expected.arrival_ns or (0, -1)
            self._where = f"ts_arrival_ns BETWEEN {low} AND {high}"
        broken = self._check_files(expected, threads)
        self._has_broken_rewrite = not broken.isdisjoint(expected.rewritten)
        sound = [path for path in self._paths if path not in broken]
        try:
            counts = self._count(sound)
        except duckdb.Error as error:
            self._proof.differ(
                "silver_unreadable",
                f"table {self._contract.feed}",
                "data files that can be read",
                str(error).splitlines()[0],
                ADVICE_FILE,
            )
            return
        for path in broken:
            if path in expected.files:
                reference, slice_id = expected.files[path]
                counts[slice_id][path] += reference.rows  # named once, not as missing rows, too
        self._compare(expected, counts)
        self._proof.totals.silver_rows += sum(
            rows
            for slice_id, files in counts.items()
            if slice_id not in expected.outside
            for path, rows in files.items()
            if path not in broken
        )
        self._check_doubles(sound)

    def _check_files(self, expected: Expected, threads: int) -> set[str]:
        """Rehash what the ledger knows, look up the rest; return the files that cannot be read."""
        broken = set()
        step = threads * 4
        with ThreadPoolExecutor(threads, thread_name_prefix="prove") as pool:
            for at in range(0, len(self._paths), step):
                some = self._paths[at : at + step]
                for path, found in zip(
                    some, pool.map(partial(self._read_file, expected), some), strict=True
                ):
                    self._proof.differences.extend(found.differences)
                    self._proof.totals.silver_files += found.rows > 0
                    self._proof.totals.bytes_hashed += found.size
                    if found.differences:
                        broken.add(path)
        return broken

    def _read_file(self, expected: Expected, path: str) -> Found:
        known = expected.files[path][0] if path in expected.files else None
        reference = known or expected.rewritten.get(path)
        if reference is not None:
            found = read_object(self._store, reference, "silver", ADVICE_FILE)
            found.rows = int(found.data is not None)
            found.data = None
            return found
        if self._store.exists(path):
            return Found()
        missing = Difference("silver_missing", path, "a data file", "none", ADVICE_FILE)
        return Found(differences=[missing])

    def _count(self, paths: Sequence[str]) -> dict[str, dict[str, int]]:
        """Rows per slice and file."""
        counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        addresses = {file_path(self._store.uri(path)): path for path in paths}
        files = [file_path(self._store.uri(path)) for path in paths]  # one may be listed twice
        source = parquet_source(files, self._schema, with_address=True)
        answer = self._sql.execute(
            f"SELECT slice_id, filename, count(*) FROM {source} "  # noqa: S608  # nosec B608: see `_where`
            f"WHERE {self._where} GROUP BY ALL"
        )
        while rows := answer.fetchmany(10_000):
            for slice_id, address, count in rows:
                counts[slice_id][addresses[address]] += count
        return counts

    def _compare(self, expected: Expected, counts: Mapping[str, Mapping[str, int]]) -> None:
        foreign: dict[str, int] = defaultdict(int)
        rewritten: set[str] = set()
        for slice_id in sorted(expected.rows.keys() | counts.keys()):
            if slice_id in expected.outside or (
                slice_id not in expected.rows and not expected.is_whole
            ):
                continue
            files = counts.get(slice_id, {})
            found, wanted = sum(files.values()), expected.rows.get(slice_id)
            strange = {path: rows for path, rows in files.items() if path not in expected.files}
            if self._has_broken_rewrite and found < (wanted or 0):
                continue  # which of its rows the broken file held is unknown: it was named
            if found == (wanted or 0):
                rewritten |= strange.keys()
                continue
            unknown = {p: rows for p, rows in strange.items() if p not in expected.rewritten}
            if found - sum(unknown.values()) == (wanted or 0):
                for path, rows in unknown.items():
                    foreign[path] += rows
            elif wanted is None:
                self._differ_rows("silver_unknown_slice", slice_id, "a slice of the ledger", files)
            else:
                self._differ_rows("silver_rows", slice_id, f"{wanted} rows", files)
        self._name_foreign(foreign)
        receipts = rewritten & expected.rewritten.keys()
        if receipts:
            self._proof.note(
                "rewritten",
                f"table {self._contract.feed}",
                f"{len(receipts)} data files are rewrites (compaction, replay): hashed against "
                "their receipts in the ledger, rows compared by counts per slice",
            )
        if rewritten - receipts:
            self._proof.note(
                "rewritten_without_receipt",
                f"table {self._contract.feed}",
                f"{len(rewritten - receipts)} data files are another tool's rewrites: only the "
                "counts per slice could be compared",
            )

    def _differ_rows(
        self, kind: str, slice_id: str, expected: str, files: Mapping[str, int]
    ) -> None:
        where = f" in {', '.join(sorted(files)[:3])}" if files else ""
        self._proof.differ(
            kind,
            slice_id,
            expected,
            f"{sum(files.values())} rows{where}",
            "Bronze holds the slice: compare with `headrace prove --deep`, then repair in a "
            "maintenance commit.",
        )

    def _name_foreign(self, foreign: Mapping[str, int]) -> None:
        for path, rows in sorted(foreign.items()):
            self._proof.differ(
                "silver_foreign",
                path,
                "only files of slices, or rewrites that keep every count",
                f"{rows} rows beyond what the ledger counted",
                "Find who committed this file (the table's snapshots say when); remove it in a "
                "maintenance commit.",
            )

    def _check_doubles(self, paths: Sequence[str]) -> None:
        """Keys that occur twice among rows that are not late, a bounded part of them at a time."""
        source = parquet_source([file_path(self._store.uri(p)) for p in paths], self._schema)
        key = ", ".join(self._contract.key)
        passes = 1 + self._proof.totals.silver_rows // ROWS_PER_PASS
        doubled, examples = 0, []
        for number in range(passes):
            query = f"""
                SELECT {key}, count(*) AS times, count(*) OVER () AS doubled FROM {source}
                WHERE NOT is_late AND {self._where} AND hash({key}) % {passes} = {number}
                GROUP BY {key} HAVING count(*) > 1 ORDER BY ALL LIMIT {SHOWN}
            """  # noqa: S608  # nosec B608: column names of the contract
            rows = self._sql.execute(query).fetchall()
            doubled += rows[0][-1] if rows else 0
            examples += [row[:-1] for row in rows]
        if doubled:
            shown = "; ".join(f"{row[:-1]} {row[-1]} times" for row in examples[:SHOWN])
            self._proof.differ(
                "doubled_keys",
                f"table {self._contract.feed}",
                f"no ({key}) twice among rows that are not late",
                f"{doubled} keys: {shown}",
                "The current views still count each once; report it with these keys.",
            )
