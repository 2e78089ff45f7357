"""A proof is equal on a sound lake, and names every planted damage exactly."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream.bronze import bronze_bytes
from stream.lake.entries import GapRecord
from stream.lake.layout import BronzeKey, SilverKey
from stream.lake.ledger import Change, Ledger
from stream.prove import Proof, prove, prove_lake
from stream.silver import build_files
from stream.slices import ShardRef, Slice

SHARD = "shardId-000000000000"
OTHER = "shardId-000000000001"


def proof_of(lake: Any, **options: Any) -> Proof:
    return prove_lake(lake.lake, lake.contract, threads=2, **options)


def kinds(proof: Proof) -> list[str]:
    return [difference.kind for difference in proof.differences]


@pytest.fixture
def filled(small_lake: Any, trade: Any) -> Any:
    """Five slices over two shards, with a reject, a heartbeat and duplicates."""
    small_lake.land_trades(50)
    small_lake.land_trades(40, shard=OTHER)
    twice = [trade(7, at_ns=small_lake.arrival_ns), trade(7, at_ns=small_lake.arrival_ns)]
    small_lake.land(
        small_lake.slice([*twice, b"{broken", b'{"type":"heartbeat","product_id":"A"}'])
    )
    small_lake.land_trades(30)
    small_lake.land_trades(20, shard=OTHER)
    return small_lake


def change_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_proof_of_a_sound_lake_is_equal_and_adds_up(filled: Any) -> None:
    proof = proof_of(filled)
    assert proof.differences == []
    totals = proof.totals
    assert (totals.records, totals.bronze_rows) == (144, 144)
    assert (totals.silver_rows, totals.duplicates) == (141, 1)
    assert (totals.quarantined, totals.ignored) == (1, 1)
    assert totals.messages == totals.silver_rows + totals.duplicates + 1 + 1
    assert (totals.shards, totals.slices, totals.commits) == (2, 5, 5)
    assert "equal" in str(proof)
    assert proof.to_json()["is_equal"] is True


def test_proof_by_settings_finds_the_feed(filled: Any) -> None:
    assert prove(filled.settings, "trades").is_equal


def test_proof_of_a_lake_without_slices_is_equal(small_lake: Any) -> None:
    assert proof_of(small_lake).is_equal


def test_proof_of_an_ended_shard_is_equal(filled: Any) -> None:
    filled.end()
    assert proof_of(filled).is_equal


def test_deep_proof_decodes_again_and_is_equal(filled: Any) -> None:
    assert proof_of(filled, deep=True).is_equal


def test_missing_bronze_object_is_named(filled: Any) -> None:
    reference = filled.results[1].record.bronze
    filled.path(reference.path).unlink()
    proof = proof_of(filled)
    assert kinds(proof) == ["bronze_missing"]
    assert proof.differences[0].where == reference.path
    assert "NOT equal: 1 difference (bronze_missing)" in str(proof)


def test_changed_byte_in_bronze_is_named(filled: Any) -> None:
    reference = filled.results[0].record.bronze
    change_byte(filled.path(reference.path))
    proof = proof_of(filled)
    assert kinds(proof) == ["bronze_changed"]
    assert proof.differences[0].where == reference.path


def test_changed_byte_in_silver_is_named(filled: Any) -> None:
    reference = filled.results[0].record.silver[0]
    change_byte(filled.path(reference.path))
    proof = proof_of(filled)
    assert kinds(proof) == ["silver_changed"]
    assert proof.differences[0].where == reference.path


def test_missing_silver_file_is_named(filled: Any) -> None:
    reference = filled.results[3].record.silver[0]
    filled.path(reference.path).unlink()
    proof = proof_of(filled)
    assert kinds(proof) == ["silver_missing"]
    assert proof.differences[0].where == reference.path


def test_changed_or_missing_quarantine_object_is_named(filled: Any) -> None:
    path = filled.path(filled.results[2].record.quarantine.path)
    change_byte(path)
    assert kinds(proof_of(filled)) == ["quarantine_changed"]
    path.unlink()
    assert kinds(proof_of(filled)) == ["quarantine_missing"]


def test_extra_rows_in_a_foreign_file_are_named(filled: Any) -> None:
    """The same rows once more, in a file that no slice wrote."""
    staged = filled.results[0].files[0]
    key = SilverKey.parse(filled.lake.store.relative(staged.uri))
    foreign = replace(key, origin="compacted").path
    filled.lake.store.put(foreign, filled.lake.store.get(key.path))
    filled.table.refresh()
    filled.table.append([replace(staged, uri=filled.lake.store.uri(foreign))], {}, {})
    proof = proof_of(filled)
    assert kinds(proof) == ["silver_foreign", "doubled_keys"]
    assert proof.differences[0].where == foreign
    assert "50 rows beyond" in proof.differences[0].found
    assert "50 keys" in proof.differences[1].found


def test_changed_ledger_entry_is_named(filled: Any) -> None:
    entries = filled.entries()
    path = filled.path(entries[3].previous)
    path.write_bytes(path.read_bytes().replace(b'"silver_rows":40', b'"silver_rows":41'))
    proof = proof_of(filled)
    assert kinds(proof)[0] == "ledger_entry_changed"
    assert proof.differences[0].where == entries[3].previous
    assert set(kinds(proof)) == {"ledger_entry_changed", "silver_rows"}


def test_unreadable_ledger_entry_is_named_once(filled: Any) -> None:
    entries = filled.entries()
    filled.path(entries[3].previous).write_bytes(b"{")
    proof = proof_of(filled)
    assert kinds(proof) == ["ledger_entry_changed"]


def test_missing_ledger_entry_is_named_once(filled: Any) -> None:
    entries = filled.entries()
    filled.path(entries[3].previous).unlink()
    proof = proof_of(filled)
    assert kinds(proof) == ["ledger_entry_missing"]
    assert proof.differences[0].where == entries[3].previous
    assert "not_checked" in [note.kind for note in proof.notes]


def test_hole_between_slices_is_named(filled: Any) -> None:
    """A dataflow that skipped two records and forced its slice into the ledger."""
    skipped = filled.slice([b"x", b"y"])
    forced = filled.slice([b"z"])
    force(filled, forced)
    proof = proof_of(filled)
    assert kinds(proof) == ["hole"]
    assert skipped.prev in proof.differences[0].expected
    assert skipped.last in proof.differences[0].found


def test_doubled_slice_is_named(filled: Any) -> None:
    """The same slice forced into the ledger and Silver a second time."""
    item = filled.results[3]
    entry = filled.ledger.entry(filled.ledger.head(), "slices", filled.ledger.head().positions)
    filled.ledger._try(Change(replace(entry, slices=(item.record,)), item.files))
    proof = proof_of(filled)
    assert kinds(proof) == ["slice_doubled", "doubled_keys"]
    assert item.record.slice_id in proof.differences[0].where


def test_bronze_object_ahead_of_the_position_is_in_flight(filled: Any) -> None:
    item = filled.slice([b"not yet committed"])
    filled.road.process([item])
    proof = proof_of(filled)
    assert proof.is_equal
    assert [note.kind for note in proof.notes] == ["in_flight"]


def test_bronze_object_behind_the_position_is_foreign(filled: Any) -> None:
    shard = ShardRef("trades", filled.results[0].record.shard.stream, SHARD)
    records = filled.slice([b"never in the stream"]).records
    path = BronzeKey.of(shard, "1003", records["ts_arrival_ns"][0].as_py()).path
    filled.lake.store.put_once(path, bronze_bytes(records))
    proof = proof_of(filled)
    assert kinds(proof) == ["bronze_foreign"]
    assert proof.differences[0].where == path


def test_bronze_object_within_a_named_gap_is_the_only_copy_of_its_records(filled: Any) -> None:
    """Written, then killed before the commit; when it came back the stream had lost the records."""
    lost = filled.slice([b"in Bronze, never committed"])
    filled.road.process([lost])
    filled.ledger.commit_slices([], [GapRecord(lost.shard, lost.prev, "9999", "retention")])
    proof = proof_of(filled)
    assert proof.is_equal
    assert [note.kind for note in proof.notes] == ["gap", "stranded"]
    assert "Keep it" in proof.notes[1].text


def test_bronze_object_that_repeats_committed_records_is_a_remnant(
    small_lake: Any, trade: Any
) -> None:
    """Two instances cut differently; the loser's second object stays behind."""
    item = small_lake.slice([trade(i) for i in range(10)])
    small_lake.land(item)
    rest = Slice(item.shard, "1004", item.records.slice(5))
    key = BronzeKey.of(item.shard, rest.first, rest.arrival_ns[0])
    small_lake.lake.store.put_once(key.path, bronze_bytes(rest.records))
    proof = proof_of(small_lake)
    assert proof.is_equal
    assert [note.kind for note in proof.notes] == ["remnant"]


def test_rewritten_silver_file_that_keeps_counts_is_a_note(filled: Any) -> None:
    """What compaction leaves: other files, the same rows."""
    rewrite(filled, pa.concat_tables(silver_tables(filled)))
    proof = proof_of(filled)
    assert proof.differences == []
    assert [note.kind for note in proof.notes] == ["rewritten_without_receipt"]
    assert proof.totals.silver_rows == 141


def test_row_added_by_a_rewrite_is_named(filled: Any) -> None:
    tables = silver_tables(filled)
    rewrite(filled, pa.concat_tables([*tables, tables[0].slice(0, 1)]))
    proof = proof_of(filled)
    assert kinds(proof) == ["silver_rows", "doubled_keys"]
    assert "compacted" in proof.differences[0].found


def test_rows_lost_by_a_rewrite_are_named(filled: Any) -> None:
    table = filled.lake.catalog.open("trades")._table
    lost = filled.results[0].record
    table.delete(f"slice_id = '{lost.slice_id}'")
    proof = proof_of(filled)
    assert kinds(proof) == ["silver_rows"]
    assert proof.differences[0].where == lost.slice_id


def test_proof_of_a_range_checks_only_its_slices(filled: Any) -> None:
    third = filled.results[2].record
    low, high = third.arrival_ns[0] // 1_000_000, third.arrival_ns[1] // 1_000_000 + 1
    filled.path(filled.results[0].record.bronze.path).unlink()
    proof = proof_of(filled, from_ms=low, to_ms=high)
    assert proof.differences == []
    assert (proof.totals.slices, proof.totals.records, proof.totals.silver_rows) == (1, 4, 1)
    filled.path(third.bronze.path).unlink()
    assert kinds(proof_of(filled, from_ms=low, to_ms=high)) == ["bronze_missing"]


def test_named_gap_is_a_note(filled: Any) -> None:
    shard = ShardRef("trades", filled.results[0].record.shard.stream, SHARD)
    filled.ledger.commit_slices([], [GapRecord(shard, "1050", "1060", "retention")])
    proof = proof_of(filled)
    assert proof.is_equal
    assert [(note.kind, "1060" in note.text) for note in proof.notes] == [("gap", True)]


def test_child_committed_before_its_parent_ended_is_named(filled: Any) -> None:
    stream = filled.results[0].record.shard.stream
    parents = {f"{stream}/{OTHER}": (f"{stream}/{SHARD}",)}
    assert kinds(proof_of(filled, parents=parents)) == ["child_before_parent"]


def test_child_committed_after_its_parent_ended_is_equal(small_lake: Any) -> None:
    small_lake.land_trades(5)
    small_lake.end()
    small_lake.land_trades(5, shard=OTHER)
    stream = small_lake.results[0].record.shard.stream
    assert proof_of(small_lake, parents={f"{stream}/{OTHER}": (f"{stream}/{SHARD}",)}).is_equal


def force(lake: Any, item: Slice) -> None:
    """Commit a slice as a faulty writer would: without the ledger's checks."""
    [result] = lake.road.process([item])
    ledger: Ledger = lake.ledger
    head = ledger.head()
    position = replace(head.positions[str(item.shard)], sequence_number=item.last)
    entry = ledger.entry(head, "slices", {**head.positions, str(item.shard): position})
    assert ledger._try(Change(replace(entry, slices=(result.record,)), result.files))


def silver_tables(lake: Any) -> list[pa.Table]:
    """Every data file of the snapshot."""
    lake.table.refresh()
    paths = [lake.lake.store.relative(address) for address, _ in lake.table.data_files()]
    return [pq.read_table(io.BytesIO(lake.lake.store.get(path))) for path in paths]


def rewrite(lake: Any, rows: pa.Table) -> None:
    """Replace all data files by one, as compaction does."""
    table = lake.lake.catalog.open("trades")
    [file] = build_files(
        rows,
        table.arrow_schema,
        "ts_event_ns",
        lambda day, digest: SilverKey("trades", day, "compacted", digest[:16]),
        [],
    )
    _, staged = file.write(lake.lake.store)
    with (
        table._table.transaction() as transaction,
        transaction.update_snapshot().overwrite() as producer,
    ):
        for task in table._table.scan().plan_files():
            producer.delete_data_file(task.file)
        producer.append_data_file(table._data_file(staged))


def test_foreign_object_in_the_ledger_is_a_note_and_harms_nobody(filled: Any) -> None:
    filled.lake.store.put("ledger/feed=trades/notes.txt", b"mine")
    proof = proof_of(filled)
    assert proof.is_equal
    assert [note.kind for note in proof.notes] == ["foreign"]
    assert filled.entries()
