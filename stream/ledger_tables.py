"""The ledger as Arrow tables: one row per slice, per commit, per named gap. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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


EVENTS = pa.schema(
    [
        ("feed", pa.string()),
        ("commit", pa.int64()),
        ("event", pa.string()),
        ("slice_id", pa.string()),
        ("shard", pa.string()),
        ("records", pa.int64()),
        ("messages", pa.int64()),
        ("silver_rows", pa.int64()),
        ("duplicates", pa.int64()),
        ("ignored", pa.int64()),
        ("rejected", pa.int64()),
        ("payload_bytes", pa.int64()),
        ("objects", pa.int64()),
        ("stored_bytes", pa.int64()),
        ("arrived_from", _TIME),
        ("arrived_to", _TIME),
        ("event_from", _TIME),
        ("event_to", _TIME),
        ("committed_at", _TIME),
    ]
)
"""One row per thing that a commit said of a slice. `event`: "slice" (its counts, absolute; a
replay says them anew), "redriven" (rows added since), "dropped" (rows that retention took)."""

REJECTS = pa.schema(
    [
        ("feed", pa.string()),
        ("commit", pa.int64()),
        ("slice_id", pa.string()),
        ("arrived_from", _TIME),
        ("reason", pa.string()),
        ("messages", pa.int64()),
    ]
)


def event_rows(entries: Sequence[Entry]) -> pa.Table:
    """What entries said of slices, as they said it: appended to for ever, never changed."""
    return pa.Table.from_pylist([row for e in entries for row in _events(e)], schema=EVENTS)


def reject_rows(entries: Sequence[Entry]) -> pa.Table:
    """Rejected messages per slice and reason, as each commit counted them."""
    rows = [
        {
            "feed": entry.feed,
            "commit": entry.number,
            "slice_id": record.slice_id,
            "arrived_from": _time(record.arrival_ns[0]) if record.rows else None,
            "reason": reason,
            "messages": messages,
        }
        for entry in entries
        for record in entry.slices
        for reason, messages in record.rejected.items()
    ]
    return pa.Table.from_pylist(rows, schema=REJECTS)


def _events(entry: Entry) -> Iterator[dict[str, Any]]:
    said = {
        "feed": entry.feed,
        "commit": entry.number,
        "committed_at": _time(entry.committed_ms * 1_000_000),
    }
    for record in entry.slices:
        objects = [o for o in (record.bronze, *record.silver, record.quarantine) if o]
        is_dated = record.silver_rows > 0
        yield said | {
            "event": "slice",
            "slice_id": record.slice_id,
            "shard": str(record.shard),
            "records": record.rows,
            "messages": record.messages,
            "silver_rows": record.silver_rows,
            "duplicates": record.duplicates,
            "ignored": sum(record.ignored.values()),
            "rejected": sum(record.rejected.values()),
            "payload_bytes": record.payload_bytes,
            "objects": len(objects),
            "stored_bytes": sum(o.bytes for o in objects),
            "arrived_from": _time(record.arrival_ns[0]) if record.rows else None,
            "arrived_to": _time(record.arrival_ns[1]) if record.rows else None,
            "event_from": _time(record.event_ns[0]) if is_dated else None,
            "event_to": _time(record.event_ns[1]) if is_dated else None,
        }
    for landed in entry.redriven:
        yield said | {
            "event": "redriven",
            "slice_id": landed.slice_id,
            "messages": landed.messages,
            "silver_rows": landed.silver_rows,
            "duplicates": landed.duplicates,
            "ignored": landed.ignored,
            "objects": len(landed.silver),
            "stored_bytes": sum(o.bytes for o in landed.silver),
        }
    for slice_id, rows in entry.dropped.items():
        yield said | {"event": "dropped", "slice_id": slice_id, "silver_rows": rows}


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


LEDGER_TABLES: Mapping[str, tuple[pa.Schema, Callable[[Sequence[Entry]], pa.Table]]] = {
    "commits": (COMMITS, commit_rows),
    "events": (EVENTS, event_rows),
    "gaps": (GAPS, gap_rows),
    "rejects": (REJECTS, reject_rows),
}
"""The ledger as tables that grow with it: their columns, and what makes their rows."""
