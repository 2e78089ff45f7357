"""The ledger as Arrow tables: one row per slice, per commit, per named gap. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from stream.clock import to_utc
from stream.lake.entries import Entry
from stream.lake.history import SliceState, current_slices

_TIME = pa.timestamp("us")

SLICES = pa.schema(
    [
        ("feed", pa.string()),
        ("commit", pa.int64()),
        ("replayed", pa.int64()),
        ("slice_id", pa.string()),
        ("stream", pa.string()),
        ("shard", pa.string()),
        ("prev", pa.string()),
        ("first", pa.string()),
        ("last", pa.string()),
        ("ends_shard", pa.bool_()),
        ("records", pa.int64()),
        ("payload_bytes", pa.int64()),
        ("arrived_from", _TIME),
        ("arrived_to", _TIME),
        ("messages", pa.int64()),
        ("silver_rows", pa.int64()),
        ("duplicates", pa.int64()),
        ("ignored", pa.int64()),
        ("rejected", pa.int64()),
        ("bronze", pa.string()),
        ("bronze_sha256", pa.string()),
        ("quarantine", pa.string()),
    ]
)

COMMITS = pa.schema(
    [
        ("feed", pa.string()),
        ("commit", pa.int64()),
        ("kind", pa.string()),
        ("committed_at", _TIME),
        ("slices", pa.int64()),
        ("records", pa.int64()),
        ("messages", pa.int64()),
        ("silver_rows", pa.int64()),
        ("duplicates", pa.int64()),
        ("ignored", pa.int64()),
        ("rejected", pa.int64()),
        ("gaps", pa.int64()),
        ("redriven", pa.int64()),
        ("files_removed", pa.int64()),
        ("previous", pa.string()),
    ]
)

GAPS = pa.schema(
    [
        ("feed", pa.string()),
        ("commit", pa.int64()),
        ("shard", pa.string()),
        ("after", pa.string()),
        ("first_kept", pa.string()),
        ("reason", pa.string()),
    ]
)


def slice_rows(entries: Sequence[Entry]) -> pa.Table:
    """One row per committed slice, as it is now: a replay changes its row."""
    rows = [_slice_row(state) for state in current_slices(entries).values()]
    return pa.Table.from_pylist(rows, schema=SLICES)


def commit_rows(entries: Sequence[Entry]) -> pa.Table:
    """One row per ledger entry."""
    return pa.Table.from_pylist([_commit_row(entry) for entry in entries], schema=COMMITS)


def gap_rows(entries: Sequence[Entry]) -> pa.Table:
    """One row per range of records that the source no longer held."""
    rows = [
        {
            "feed": entry.feed,
            "commit": entry.number,
            "shard": str(gap.shard),
            "after": gap.after,
            "first_kept": gap.first_kept,
            "reason": gap.reason,
        }
        for entry in entries
        for gap in entry.gaps
    ]
    return pa.Table.from_pylist(rows, schema=GAPS)


def _slice_row(state: SliceState) -> dict[str, Any]:
    record = state.record
    return {
        "feed": state.feed,
        "commit": state.number,
        "replayed": state.replayed,
        "slice_id": record.slice_id,
        "stream": record.shard.stream,
        "shard": record.shard.shard,
        "prev": record.prev,
        "first": record.first,
        "last": record.last,
        "ends_shard": record.ends_shard,
        "records": record.rows,
        "payload_bytes": record.payload_bytes,
        "arrived_from": _time(record.arrival_ns[0]) if record.rows else None,
        "arrived_to": _time(record.arrival_ns[1]) if record.rows else None,
        "messages": record.messages,
        "silver_rows": record.silver_rows,
        "duplicates": record.duplicates,
        "ignored": sum(record.ignored.values()),
        "rejected": sum(record.rejected.values()),
        "bronze": record.bronze.path if record.bronze else None,
        "bronze_sha256": record.bronze.sha256 if record.bronze else None,
        "quarantine": record.quarantine.path if record.quarantine else None,
    }


def _commit_row(entry: Entry) -> dict[str, Any]:
    slices, redriven = entry.slices, entry.redriven
    landed = sum(s.silver_rows for s in slices) + sum(r.silver_rows for r in redriven)
    duplicates = sum(s.duplicates for s in slices) + sum(r.duplicates for r in redriven)
    return {
        "feed": entry.feed,
        "commit": entry.number,
        "kind": entry.kind,
        "committed_at": _time(entry.committed_ms * 1_000_000),
        "slices": len(slices),
        "records": sum(s.rows for s in slices),
        "messages": sum(s.messages for s in slices),
        "silver_rows": landed,
        "duplicates": duplicates,
        "ignored": sum(sum(s.ignored.values()) for s in slices),
        "rejected": sum(sum(s.rejected.values()) for s in slices),
        "gaps": len(entry.gaps),
        "redriven": sum(r.messages for r in redriven),
        "files_removed": sum(len(rewrite.removed) for rewrite in entry.rewrites),
        "previous": entry.previous,
    }


def _time(timestamp_ns: int) -> object:
    return to_utc(timestamp_ns).replace(tzinfo=None)
