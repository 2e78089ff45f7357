"""Pure work is done once per run: decoding the same records, reading the same file.

Instances and restarts process the same slices again and again; what they decode and read back is
a function of bytes alone, so within a run the answer is remembered. Half of a run's time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream import flow, silver
from stream.decode import decode_records


@contextmanager
def pure_work_remembered() -> Iterator[None]:
    """For the runs inside: `flow.decode_records` and Silver's reading of files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "decode_records", _decoding())
        names = {**vars(pq), "read_table": _reading()}
        patch.setattr(silver, "pq", SimpleNamespace(**names))
        yield


def _decoding() -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    def decode(contract: Any, records: pa.RecordBatch) -> Any:
        columns = ("payload", "ts_arrival_ns", "sequence_number")
        key = tuple(tuple(records[name].to_pylist()) for name in columns)
        if key not in known:
            known[key] = decode_records(contract, records)
        return known[key]

    return decode


def _reading() -> Callable[..., pa.Table]:
    known: dict[tuple[bytes, tuple[str, ...]], pa.Table] = {}

    def read(source: io.BytesIO, columns: list[str]) -> pa.Table:
        key = (source.getvalue(), tuple(columns))
        if key not in known:
            known[key] = pq.read_table(source, columns=columns, use_threads=False)
        return known[key]

    return read
