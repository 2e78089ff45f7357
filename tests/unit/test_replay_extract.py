"""Extracts land through the live dataflow: once, deduplicated, provable, and all or nothing."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from batch.extracts import ExtractRequest, Part
from batch.extracts.landing import land_extract
from batch.replay.from_extract import replay_extracts
from batch.replay.recorded import replay_recorded
from batch.replay.reprocess import BronzeSource
from stream.errors import ConfigError, FatalError
from stream.prove import prove_lake
from stream.query import run_query
from stream.sources.extract import find_manifest
from stream.sources.extract_lanes import ExtractLanes, shard_of

DAY = date(2025, 11, 20)
DAY_NS = 1_763_596_800_000_000_000


class Canned:
    """An extractor of given messages, one part per list."""

    source = "vendor"

    def __init__(self, parts: list[list[bytes]], feed: str | None = "trades") -> None:
        self.parts, self.feed = parts, feed

    def feed_of(self, dataset: str) -> str | None:
        return self.feed

    def mapping_of(self, dataset: str) -> dict[str, object]:
        return {}

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        for lines in self.parts:
            yield Part(gzip.compress(b"\n".join(lines), mtime=0), "jsonl.gz", len(lines))


@pytest.fixture
def trades(trade: Any) -> Any:
    """Canonical trades with ids from..to, on a day of the past."""
    return lambda first, last: [trade(n, at_ns=DAY_NS + n * 1_000) for n in range(first, last)]


def land(lake: Any, parts: list[list[bytes]], run_id: str = "run-1", **options: Any) -> Any:
    request = ExtractRequest("trades", DAY, DAY)
    return land_extract(
        lake.lake.store, Canned(parts, **options), request, run_id, clock=lake.clock
    )


def replay(lake: Any, *manifests: Any, apply: bool = True) -> Any:
    return replay_extracts(
        lake.settings, lake.lake, lake.contract, manifests, apply=apply, clock=lake.clock
    )


def count(lake: Any, table: str = "trades") -> int:
    return int(run_query(lake.settings, f"SELECT count(*) AS n FROM {table}")["n"][0].as_py())


def test_extract_lands_once_and_proves_equal(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 50), trades(50, 80)])
    report = replay(small_lake, manifest)
    assert (report.rows_added, report.slices, report.duplicates) == (80, 2, 0)
    again = replay(small_lake, manifest)
    assert (again.slices, again.commit) == (0, None)
    assert count(small_lake) == 80
    assert prove_lake(small_lake.lake, small_lake.contract).is_equal


def test_bronze_of_an_extract_is_the_part_itself(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 50)])
    replay(small_lake, manifest)
    record = small_lake.entries()[-1].slices[0]
    assert record.bronze.path == manifest.parts[0].path
    assert record.bronze.sha256 == manifest.parts[0].sha256


def test_dry_run_counts_and_writes_nothing(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 50), [b"not json"]])
    before = {info.path for info in small_lake.lake.store.list("")}
    report = replay(small_lake, manifest, apply=False)
    assert (report.rows_added, report.rejected) == (50, {"malformed_json": 1})
    assert {info.path for info in small_lake.lake.store.list("")} == before
    assert count(small_lake) == 0


def test_rows_that_silver_holds_are_dropped_whatever_their_age(
    small_lake: Any, trades: Any
) -> None:
    replay(small_lake, land(small_lake, [trades(0, 50)]))
    report = replay(small_lake, land(small_lake, [trades(25, 75), trades(70, 80)], "run-2"))
    assert (report.rows_added, report.duplicates) == (30, 30)
    assert count(small_lake) == count(small_lake, "trades_current") == 80
    assert prove_lake(small_lake.lake, small_lake.contract).is_equal


def test_bars_of_old_days_are_there_at_once(small_lake: Any, trades: Any) -> None:
    replay(small_lake, land(small_lake, [trades(0, 50)]))
    bars = run_query(small_lake.settings, "SELECT sum(trades)::INT AS n FROM bars_1m_current")
    assert bars["n"].to_pylist() == [50]


def test_stream_goes_on_beside_an_extract(small_lake: Any, trades: Any) -> None:
    small_lake.land_trades(10)
    replay(small_lake, land(small_lake, [trades(0, 50)]))
    small_lake.land_trades(10)
    assert count(small_lake) == 70
    assert prove_lake(small_lake.lake, small_lake.contract).is_equal


def test_interrupted_landing_goes_on_behind_its_last_commit(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 50), trades(50, 80)])
    shard = shard_of(manifest)
    rule = replace(small_lake.settings.slice_rule, max_rows=20)
    lanes = ExtractLanes(small_lake.lake.store, [manifest], {}, rule)
    first, second = lanes.poll(0), lanes.poll(0)
    assert (first.rows, second.rows, first.shard) == (20, 20, shard)
    small_lake.road._keep_bronze = lanes.part_of
    small_lake.land(first)
    small_lake.land(second)
    report = replay(small_lake, manifest)
    assert report.rows_added == 40
    assert count(small_lake) == 80
    assert prove_lake(small_lake.lake, small_lake.contract).is_equal


def test_landed_extract_replays_from_bronze_unchanged(small_lake: Any, trades: Any) -> None:
    small_lake.land_trades(10)
    replay(small_lake, land(small_lake, [trades(0, 50)]))
    replay(small_lake, land(small_lake, [trades(25, 75)], "run-2"))
    report = replay_recorded(
        small_lake.settings,
        small_lake.lake,
        small_lake.contract,
        (0, 10**13),
        BronzeSource(small_lake.lake.store),
        apply=True,
        clock=small_lake.clock,
    )
    assert (report.slices, report.changed_slices, report.commit) == (3, 0, None)


@pytest.mark.slow
def test_many_runs_leave_no_positions_in_the_table(small_lake: Any, trades: Any) -> None:
    for number in range(25):
        run = land(small_lake, [trades(number * 2, number * 2 + 2)], f"run-{number}")
        replay(small_lake, run)
    head = small_lake.ledger.head()
    assert sum(shard.startswith("extract-") for shard in head.positions) <= 20
    assert replay(small_lake, find_manifest(small_lake.lake.store, "run-0")).slices == 0
    assert count(small_lake) == 50
    assert prove_lake(small_lake.lake, small_lake.contract).is_equal


def test_late_writer_of_a_closed_run_is_refused(small_lake: Any, trades: Any) -> None:
    """Its slices were made before the run's position left the table property."""
    manifest = land(small_lake, [trades(0, 50)])
    lanes = ExtractLanes(small_lake.lake.store, [manifest], {}, small_lake.settings.slice_rule)
    small_lake.road._keep_bronze = lanes.part_of
    late = small_lake.road.process([lanes.poll(0)])
    replay(small_lake, manifest)
    small_lake.ledger.close_shards(lambda shard, _: shard.startswith("extract-"))
    assert str(shard_of(manifest)) not in small_lake.ledger.head().positions
    committed = small_lake.ledger.commit_slices([(r.record, r.files) for r in late])
    assert committed is None
    assert count(small_lake) == 50


def test_part_with_another_hash_is_refused(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 50)])
    small_lake.path(manifest.parts[0].path).write_bytes(gzip.compress(b"{}"))
    with pytest.raises(FatalError, match=r"is not what its manifest says: \d+ bytes"):
        replay(small_lake, manifest)
    assert count(small_lake) == 0


def test_part_cut_in_half_is_refused(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 50)])
    path = small_lake.path(manifest.parts[0].path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FatalError, match="is not what its manifest says"):
        replay(small_lake, manifest)


def test_missing_part_is_refused(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 50)])
    small_lake.path(manifest.parts[0].path).unlink()
    with pytest.raises(FatalError, match="is missing although its manifest names it"):
        replay(small_lake, manifest)


def test_changed_part_is_named_by_the_proof(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 50)])
    replay(small_lake, manifest)
    small_lake.path(manifest.parts[0].path).write_bytes(b"changed")
    kinds = [d.kind for d in prove_lake(small_lake.lake, small_lake.contract).differences]
    assert kinds == ["bronze_changed"]


def test_unknown_run_names_those_that_exist(small_lake: Any, trades: Any) -> None:
    land(small_lake, [trades(0, 5)])
    with pytest.raises(ConfigError, match=r"no extract 'nope'.*Runs that exist: run-1"):
        find_manifest(small_lake.lake.store, "nope")


def test_extract_of_another_feed_is_refused(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 5)], feed="news")
    with pytest.raises(ConfigError, match="is of news, not of trades"):
        replay(small_lake, manifest)


def test_run_without_a_manifest_does_not_count_and_can_run_again(
    small_lake: Any, trades: Any
) -> None:
    class Breaks(Canned):
        def extract(self, request: ExtractRequest) -> Iterator[Part]:
            yield from super().extract(request)
            raise OSError("the vendor hung up")

    request = ExtractRequest("trades", DAY, DAY)
    with pytest.raises(OSError, match="hung up"):
        land_extract(
            small_lake.lake.store, Breaks([trades(0, 5)]), request, "run-1", clock=small_lake.clock
        )
    with pytest.raises(ConfigError, match="never finished"):
        find_manifest(small_lake.lake.store, "run-1")
    small_lake.clock.sleep(1)
    manifest = land(small_lake, [trades(0, 7)])
    assert manifest.rows == 7
    assert replay(small_lake, manifest).rows_added == 7


def test_second_attempt_of_a_run_adopts_the_first_manifest(small_lake: Any, trades: Any) -> None:
    first = land(small_lake, [trades(0, 5)])
    small_lake.clock.sleep(5)
    assert land(small_lake, [trades(0, 9)]) == first


def test_damaged_manifest_is_refused(small_lake: Any, trades: Any) -> None:
    manifest = land(small_lake, [trades(0, 5)])
    small_lake.path(manifest.path).write_bytes(b"{}")
    with pytest.raises(FatalError, match="is not a manifest"):
        find_manifest(small_lake.lake.store, "run-1")


@pytest.mark.parametrize(
    ("source", "run_id"), [("trades", "ok"), ("Vendor", "ok"), ("vendor", ""), ("vendor", "../x")]
)
def test_names_that_make_no_key_of_their_own_are_refused(
    small_lake: Any, source: str, run_id: str
) -> None:
    extractor = Canned([])
    extractor.source = source  # type: ignore[misc]
    with pytest.raises(ConfigError, match="expected"):
        land_extract(small_lake.lake.store, extractor, ExtractRequest("trades"), run_id)


def test_extract_without_items_lands_as_its_end_alone(small_lake: Any) -> None:
    report = replay(small_lake, land(small_lake, []))
    assert (report.slices, report.rows_added) == (0, 0)
    assert report.commit is not None
    assert replay(small_lake, find_manifest(small_lake.lake.store, "run-1")).commit is None
