"""From objects, slices, records and commits: every message is found once, whatever happened."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from stream.errors import ConfigError
from stream.lineage import Link, Trace, source


def links(root: Link | None, kind: str) -> list[Link]:
    assert root is not None
    return [link for link in root.walk() if link.kind == kind]


def fates(found: Trace) -> Counter[str]:
    total: Counter[str] = Counter()
    for link in links(found.forward, "messages"):
        kinds = ("silver", "duplicate", "ignored", "quarantine", "undecided")
        total.update({k: n for k, n in link.facts.items() if k in kinds and n})
    return total


def check_all_rows(traced: Any) -> None:
    """Every Silver row of the lake traces to bytes that decode to it, over all slices."""
    rows = traced.rows("SELECT slice_id, count(*)::INT AS n FROM trades GROUP BY ALL")
    for row in rows:
        found = traced.ask(row["slice_id"])
        assert found.is_whole, found.broken
        assert fates(found)["silver"] == row["n"]


def test_slice_leads_back_to_its_object_and_forward_to_all_that_became_of_it(traced: Any) -> None:
    item = traced.land_mixed()
    found = traced.ask(item.id)
    assert found.is_whole, found.broken
    record = traced.small.results[0].record
    [bronze] = links(found.back, "Bronze object")
    assert (bronze.name, bronze.state) == (record.bronze.path, "verified")
    [file] = links(found.forward, "Silver file")
    assert (file.name, file.state) == (record.silver[0].path, "verified")
    assert fates(found) == {"silver": 5, "duplicate": 1, "ignored": 1, "quarantine": 3}
    assert links(found.forward, "quarantine")[0].name == record.quarantine.path
    assert links(found.forward, "bars")[0].state == "verified"
    assert links(found.forward, "commit")[0].name == "trades#2"
    assert "nothing is published" in links(found.forward, "Gold")[0].name


def test_duplicate_names_the_row_that_it_repeats(traced: Any) -> None:
    item = traced.land_mixed()
    again = traced.small.slice([item.records["payload"][0].as_py()])
    traced.small.land(again)
    [duplicate] = links(traced.ask(again.id).forward, "duplicate")
    assert duplicate.says == f"repeats record 1000 line 0 of {item.id}"


def test_object_of_a_slice_is_an_answer_for_it(traced: Any) -> None:
    item = traced.land_mixed()
    record = traced.small.results[0].record
    for path in (record.bronze.path, record.silver[0].path, record.quarantine.path):
        found = traced.ask(traced.small.lake.store.uri(path))
        assert found.is_whole, found.broken
        assert [link.name for link in links(found.back, "slice")] == [item.id]
        assert fates(found)["silver"] == 5
    assert traced.ask(path).to_json() | {"question": 0} == found.to_json() | {"question": 0}


def test_record_shows_its_messages_alone(traced: Any) -> None:
    item = traced.land_mixed()
    found = traced.ask("shardId-000000000000:1001")
    assert fates(found) == {"silver": 2, "quarantine": 1}
    assert [record.message for record in found.records][1] == b"{broken"
    assert {record.payload for record in found.records} == {item.records["payload"][1].as_py()}
    assert traced.ask(f"{item.shard}:1001").records == found.records
    assert traced.ask("trades/shardId-000000000000:1001").records == found.records


def test_commit_and_its_entry_are_the_same_answer(traced: Any) -> None:
    item = traced.land_mixed()
    traced.small.land_trades(3)
    by_number = traced.ask("trades#2")
    [path] = [
        info.path
        for info in traced.small.lake.store.list("ledger/")
        if "/000000000002-" in info.path
    ]
    assert [link.name for link in links(by_number.back, "slice")] == [item.id]
    by_path = traced.ask(path)
    assert by_path.to_json() | {"question": ""} == by_number.to_json() | {"question": ""}


def test_walk_of_the_ledger_ends_at_the_slice(traced: Any) -> None:
    for _ in range(3):
        item = traced.small.land_trades(2)
    assert traced.ask(item.id).reads.ledger_entries == 1
    assert traced.ask("trades#2").reads.ledger_entries == 3


@pytest.mark.slow
def test_rows_are_found_after_a_compaction(traced: Any) -> None:
    items = [traced.land_mixed(first=10 * n) for n in range(3)]
    before = traced.small.results[0].record.silver[0].path
    traced.compact()
    found = traced.ask(items[0].id)
    [file] = links(found.forward, "Silver file")
    assert file.name != before
    assert file.facts["written by"].startswith("compaction trades#")
    check_all_rows(traced)
    old = traced.ask(before)
    assert "replaced by trades#" in (old.forward.says if old.forward else "")
    assert fates(old)["silver"] == 5
    new = traced.ask(file.name)
    assert {link.name for link in links(new.back, "slice")} == {item.id for item in items}


@pytest.mark.slow
def test_rows_are_found_after_a_replay(traced: Any) -> None:
    first, second = traced.land_mixed(), traced.land_mixed(first=10)
    traced.compact()
    traced.small.contract = traced.refuses("2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream.lineage.tracer.load_feed", lambda _: traced.small.contract)
        assert traced.replay(traced.small.contract).commit
        found = traced.ask(first.id)
        kinds = [link.facts["kind"] for link in links(found.forward, "commit")]
        assert kinds == ["slices", "replay"]
        assert fates(found) == {"silver": 4, "duplicate": 1, "ignored": 1, "quarantine": 4}
        assert traced.ask(second.id).is_whole
        check_all_rows(traced)


def test_redriven_message_is_a_row_of_its_slice(traced: Any, fixed: None) -> None:
    item = traced.land_mixed()
    waiting = traced.ask(item.id)
    assert waiting.is_whole, waiting.broken
    assert fates(waiting)["quarantine"] == 3
    traced.redrive()
    found = traced.ask(item.id)
    assert found.is_whole, found.broken
    assert fates(found) == {"silver": 6, "duplicate": 1, "ignored": 1, "quarantine": 2}
    redriven = [link for link in links(found.forward, "silver") if link.facts.get("redriven")]
    assert [link.name for link in redriven] == ["record 1006 line 0"]
    check_all_rows(traced)
    traced.compact()
    check_all_rows(traced)


def test_resharded_shard_names_its_parents(traced: Any) -> None:
    traced.small.committer._parents_of = lambda shard: (
        ("shardId-000000000000",) if shard.shard.endswith("1") else ()
    )
    traced.land_mixed()
    traced.small.end()
    child = traced.land_mixed("shardId-000000000001", first=100)
    found = traced.ask(child.id)
    [shard] = links(found.back, "stream shard")
    assert shard.facts["parents"] == "headrace-trades.00000000/shardId-000000000000"
    end = traced.ask("headrace-trades.00000000/shardId-000000000000/end")
    assert end.is_whole
    assert links(end.back, "slice")[-1].facts["says"] == "the end of its shard: no records"


def test_extract_leads_back_to_its_part_and_manifest(traced: Any) -> None:
    traced.small.land_trades(2)
    manifest = traced.land_extract()
    found = traced.ask(manifest.parts[1].path)
    assert found.is_whole, found.broken
    assert links(found.back, "extract")[0].facts["run_id"] == "run-1"
    assert fates(found) == {"silver": 15}
    assert {link.name for link in links(found.back, "extract part")} == {manifest.parts[1].path}
    check_all_rows(traced)


def test_object_that_is_not_committed_yet_is_in_flight(traced: Any) -> None:
    traced.small.land_trades(2)
    item = traced.small.slice([traced.trade(9, at_ns=traced.small.arrival_ns)])
    [result] = traced.small.road.process([item])
    found = traced.ask(result.record.bronze.path)
    assert found.is_whole
    assert found.forward is not None
    assert "in flight" in found.forward.says


def test_decoder_that_changed_since_is_named_with_the_columns(
    traced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = traced.land_mixed()
    decode = source.decode_records

    def changed(contract: Any, records: Any) -> Any:
        decoded = decode(contract, records)
        at = decoded.rows.schema.get_field_index("side")
        sides = ["sell"] * decoded.rows.num_rows
        rows = decoded.rows.set_column(at, decoded.rows.schema.field(at), [sides])
        return type(decoded)(
            rows, decoded.rejects, decoded.ignored, decoded.messages, decoded.rejected
        )

    monkeypatch.setattr(source, "decode_records", changed)
    found = traced.ask(item.id)
    assert not found.is_whole
    assert {d.kind for d in found.broken} == {"row_differs", "decoder_differs"}
    assert {record.columns for record in found.records if record.columns} == {("side",)}
    assert "Silver 'buy', decoded now 'sell'" in found.broken[-1].found


NEAREST = {
    "trades#99": "they go from #1 to #2",
    "quotes#1": "has no ledger in this lake",
    "shardId-000000000009:5": "Nearest: shardId-000000000000",
    "shardId-000000000000:77": "holds 1000 to 1006",
    "headrace-trades.00000000/shardId-000000000000/999": "no commit holds slice",
    "bronze/source=trades/nope.parquet": "E.g. bronze/source=trades/year=",
    "silver/entity=trades/x": "no object",
    "ledger/feed=trades/000000000002-0000000000000000.json": "Nearest: ledger/feed=trades/",
    "no such thing": "names nothing of a lake",
    "s3://elsewhere/bronze/x": "is no object of this lake",
    "trade": "Nearest: trades",
}


def test_what_does_not_exist_is_answered_with_the_nearest_names(traced: Any) -> None:
    traced.land_mixed()
    for what, says in NEAREST.items():
        with pytest.raises(ConfigError) as refused:
            traced.ask(what)
        assert says in str(refused.value), what
