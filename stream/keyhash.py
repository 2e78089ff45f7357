"""64-bit hashes of rows over chosen columns, vectorised: the same on every machine and version;
and a set of such hashes that takes in a slice's at once.

The mixing step is the finaliser of MurmurHash3 (Austin Appleby, public domain): every input bit
changes every output bit with probability 1/2. For n keys in a dedup bucket, a new key collides
with probability n / 2^64 (3e-14 for 600,000 keys).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_EMPTY = np.uint64(0)
_FOR_EMPTY = np.uint64(0x9E3779B97F4A7C15)
"""What stands in a table for the hash that marks an empty place."""
_MAX_PROBES = 64
_FEW = 256


def hash_rows(rows: pa.Table, columns: Sequence[str]) -> Hashes:
    """One hash per row over the given columns; order of columns matters, nulls are a value."""
    hashes = np.zeros(rows.num_rows, dtype=np.uint64)
    for name in columns:
        column = rows[name].combine_chunks()
        hashes = _mix(hashes * np.uint64(31) + _hash_column(column))
    return hashes


class KeySet:
    """A set of hashes, in three parts: an open-addressed table for what comes many at a time, a
    sorted array for what was there when it was frozen, a Python set for what comes in driblets.

    Sorting a slice's hashes costs several times as much as looking them up: in numpy every probe
    is one step for all rows at once, and after a few of them every row has found its place. The
    table takes 16 to 32 bytes a key, the sorted part 8. A hash's place is given by its upper bits,
    so the table's content is nearly in order when it is frozen.
    """

    __slots__ = ("_bits", "_count", "_few", "_sorted", "_table")

    def __init__(self) -> None:
        self._sorted: Hashes = np.zeros(0, np.uint64)
        self._few: set[int] = set()
        self._reset()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._few) + self._count

    def add(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Take these in. Returns: which were not there, each only at its first place."""
        if len(hashes) <= _FEW and not self._count:
            return self._add_few(hashes)
        if self._few:
            few, self._few = np.array(list(self._few), np.uint64), set()
            self._add_many(few)
        return self._add_many(hashes)

    def freeze(self) -> None:
        """Make it compact."""
        if self._count:
            self._sorted = self.contents()
            self._few = set()
            self._reset()

    def contents(self) -> Hashes:
        """All hashes, sorted."""
        known, few = self._known(), np.array(sorted(self._few), np.uint64)
        known[known == _FOR_EMPTY] = _EMPTY
        return np.sort(np.concatenate([self._sorted, few, known]), kind="stable")

    def _reset(self) -> None:
        self._bits, self._count = 0, 0
        self._table: Hashes = np.zeros(1 + _MAX_PROBES, np.uint64)

    def _add_few(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        fresh = ~is_among(hashes, self._sorted)
        for row, value in enumerate(hashes.tolist()):
            fresh[row] &= value not in self._few
            if fresh[row]:
                self._few.add(value)
        return fresh

    def _add_many(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        fresh = np.zeros(len(hashes), dtype=bool)
        if 2 * (self._count + len(hashes)) > 1 << self._bits:
            self._grow(2 * (self._count + len(hashes)))  # first: it may move keys to the sorted
        if len(self._sorted):
            rows = np.flatnonzero(~is_among(hashes, self._sorted))
        else:
            rows = np.arange(len(hashes))
        left = self._insert(hashes, rows, fresh)
        if len(left):
            new, first = np.unique(hashes[left], return_index=True)
            fresh[left[first]] = True
            self._sorted = np.union1d(self._sorted, new)
        return fresh

    def _known(self) -> Hashes:
        return self._table[np.flatnonzero(self._table != _EMPTY)]

    def _grow(self, places: int) -> None:
        """A table of at least so many places. In order, each hash's place follows from the last."""
        known = np.sort(self._known(), kind="stable")
        self._bits = (places - 1).bit_length()
        home = self._home(known)
        place = _lay_out(home)
        is_far = place - home >= _MAX_PROBES
        if is_far.any():
            self._sorted = np.union1d(self._sorted, known[is_far])
            known, home = known[~is_far], home[~is_far]
            place = _lay_out(home)
        self._count = len(known)
        self._table = np.zeros((1 << self._bits) + _MAX_PROBES, np.uint64)
        self._table[place] = known

    def _home(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Where the search for each begins: its upper bits."""
        if not self._bits:
            return np.zeros(len(hashes), np.int64)
        return (hashes >> np.uint64(64 - self._bits)).astype(np.int64)

    def _insert(
        self, hashes: Hashes, rows: npt.NDArray[np.int64], fresh: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        """Put rows (ascending) into the table and mark those that are new.

        Returns: rows that found no place in `_MAX_PROBES` steps: their hashes were made to collide.
        """
        found = hashes[rows]
        found[found == _EMPTY] = _FOR_EMPTY
        at = self._home(found)
        for _ in range(_MAX_PROBES):
            if not len(rows):
                break
            known = self._table[at]
            again = known != found
            free = np.flatnonzero(known == _EMPTY)
            place = at[free]
            # Whoever writes last holds the place: backwards, so that it is the first row.
            self._table[place[::-1]] = free[::-1].astype(np.uint64)
            holder = self._table[place].astype(np.int64)
            held = found[holder]
            self._table[place] = held
            first = free[holder == free]
            fresh[rows[first]] = True
            self._count += len(first)
            again[free] = held != found[free]
            left = np.flatnonzero(again)  # then three times faster than by the mask
            rows, found, at = rows[left], found[left], at[left] + 1
        return rows


def _lay_out(home: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places for ascending homes: each its home, or the one behind its neighbour's."""
    number = np.arange(len(home))
    return np.asarray(np.maximum.accumulate(home - number) + number)


def is_among(hashes: Hashes, known: Hashes) -> npt.NDArray[np.bool_]:
    """Mask of the hashes that are in `known`, which is sorted.

    For a few thousand at a time among many: `np.isin` would sort the many again each time.
    """
    if not len(known):
        return np.zeros(len(hashes), dtype=bool)
    found = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)]
    return np.equal(found, hashes)


def _hash_column(column: pa.Array) -> Hashes:
    if pa.types.is_dictionary(column.type):
        values = _hash_column(column.dictionary)
        indices = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return _blank_nulls(
            values[indices] if len(values) else np.zeros(len(column), np.uint64), column
        )
    if pa.types.is_integer(column.type) or pa.types.is_date32(column.type):
        plain = column.cast(pa.int64() if not pa.types.is_date32(column.type) else pa.int32())
        numbers = plain.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return _blank_nulls(_mix(numbers.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)), column)
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        return _blank_nulls(_hash_text(column), column)
    if pa.types.is_timestamp(column.type):
        return _hash_column(column.cast(pa.int64()))
    if pa.types.is_boolean(column.type):
        return _hash_column(column.cast(pa.int8()))
    if pa.types.is_decimal128(column.type):
        return _blank_nulls(_hash_decimal(column), column)
    raise TypeError(f"no hash for columns of type {column.type}")


def _hash_decimal(column: pa.Array) -> Hashes:
    """Both 64-bit halves of the unscaled value."""
    halves = np.frombuffer(column.buffers()[1], np.uint64)
    halves = halves[2 * column.offset : 2 * (column.offset + len(column))]
    return _mix(_mix(halves[::2] + np.uint64(0x9E3779B97F4A7C15)) ^ halves[1::2])


def _hash_text(column: pa.Array) -> Hashes:
    """Mix eight bytes at a time, all rows at once."""
    count = len(column)
    _, offsets_buffer, data_buffer = column.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[column.offset : column.offset + count + 1]
    base, end = int(offsets[0]), int(offsets[-1])
    data = np.zeros(end - base + 8, dtype=np.uint8)
    if data_buffer is not None:
        data[: end - base] = np.frombuffer(data_buffer, np.uint8)[base:end]
    words = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
    starts = (offsets[:-1] - base).astype(np.int64)
    lengths = np.diff(offsets).astype(np.int64)
    hashes = _mix(lengths.astype(np.uint64) + np.uint64(0x51ED270B))
    for at in range(0, int(lengths.max(initial=0)), 8):
        rows = np.flatnonzero(lengths > at)
        left = np.minimum(lengths[rows] - at, 8).astype(np.uint64)
        mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> (np.uint64(64) - left * np.uint64(8))
        hashes[rows] = _mix(hashes[rows] ^ (words[starts[rows] + at] & mask))
    return hashes


def _mix(values: Hashes) -> Hashes:
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xFF51AFD7ED558CCD)
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def _blank_nulls(hashes: Hashes, column: pa.Array) -> Hashes:
    if column.null_count:
        hashes[column.is_null().to_numpy(zero_copy_only=False)] = np.uint64(0x2545F4914F6CDD1D)
    return hashes
