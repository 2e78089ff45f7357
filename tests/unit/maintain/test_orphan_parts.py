"""Parts that no manifest names go after their grace; parts of an extract never."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from batch.extracts import ExtractRequest, Part
from batch.extracts.landing import land_extract
from batch.maintain.orphan_parts import extract_sources, remove_orphan_parts
from stream.clock import ManualClock
from stream.errors import ConfigError, FatalError, StoreUnavailableError
from stream.lake.layout import ExtractManifestKey, ExtractPartKey
from stream.lake.store import Store
from stream.sources.extract import Manifest, PartRef, read_manifest, read_part

T0_NS = 1_764_000_000_000_000_000


class Vendor:
    """Yields parts; stops without an answer after some of them."""

    source = "vendor"

    def __init__(self, clock: ManualClock, stops_after: int = 99, hours_each: float = 0) -> None:
        self._clock = clock
        self._stops_after = stops_after
        self._hours_each = hours_each

    def feed_of(self, dataset: str) -> str | None:
        return None

    def mapping_of(self, dataset: str) -> Mapping[str, object]:
        return {}

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        for number in range(3):
            if number == self._stops_after:
                raise StoreUnavailableError("the vendor is gone")
            yield Part(b'{"n": %d}\n' % number, "jsonl", 1)
            self._clock.sleep(self._hours_each * 3_600)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0_NS)


@pytest.fixture
def lake(small_lake: Any) -> Any:
    return small_lake.lake


def land(lake: Any, clock: ManualClock, run_id: str, **options: Any) -> None:
    def stamp(part: Any) -> None:
        path = Path(lake.store.uri(part.path).removeprefix("file://"))
        os.utime(path, ns=(clock.now_ns(), clock.now_ns()))

    land_extract(
        lake.store,
        Vendor(clock, **options),
        ExtractRequest("ticks"),
        run_id,
        clock=clock,
        progress=stamp,
    )


def land_half(lake: Any, clock: ManualClock, run_id: str, **options: Any) -> None:
    """Two parts and no manifest."""
    with pytest.raises(StoreUnavailableError):
        land(lake, clock, run_id, stops_after=2, **options)


def sweep(lake: Any, clock: ManualClock, **options: Any) -> Any:
    return remove_orphan_parts(lake, "vendor", clock=clock, **{"apply": True, **options})


def parts(lake: Any) -> list[str]:
    return sorted(i.path for i in lake.store.list("bronze/source=vendor/") if "run_id=" in i.path)


def test_parts_of_an_interrupted_run_go_after_their_grace(lake: Any, clock: ManualClock) -> None:
    land(lake, clock, "whole")
    kept = parts(lake)
    land_half(lake, clock, "half")
    clock.sleep(71 * 3_600)
    assert (sweep(lake, clock).orphans, sweep(lake, clock).waiting) == ((), 2)
    clock.sleep(2 * 3_600)
    assert len(sweep(lake, clock, apply=False).orphans) == 2
    assert len(parts(lake)) == 5
    report = sweep(lake, clock)
    assert report.kinds == {"part": 2}
    assert (report.table, report.objects_before, report.objects_after) == (
        "extracts of vendor",
        5,
        3,
    )
    assert parts(lake) == kept
    manifest = read_manifest(lake.store, "vendor", "whole")
    assert manifest is not None
    assert [read_part(lake.store, part) for part in manifest.parts]


def test_parts_of_an_earlier_attempt_of_a_finished_run_go(lake: Any, clock: ManualClock) -> None:
    land_half(lake, clock, "run")
    clock.sleep(1)
    land(lake, clock, "run")
    clock.sleep(100 * 3_600)
    assert len(sweep(lake, clock).orphans) == 2
    assert len(parts(lake)) == 3


def test_run_that_takes_longer_than_the_grace_keeps_its_first_parts(
    lake: Any, clock: ManualClock
) -> None:
    land_half(lake, clock, "slow", hours_each=60)
    clock.sleep(10 * 3_600)  # the first part is 130 h old, the second 70
    assert sweep(lake, clock).orphans == ()
    clock.sleep(3 * 3_600)
    assert len(sweep(lake, clock).orphans) == 2


def test_manifest_that_is_written_after_the_plan_spares_its_parts(
    lake: Any, clock: ManualClock
) -> None:
    land_half(lake, clock, "run")
    clock.sleep(100 * 3_600)
    manifest_path = ExtractManifestKey("vendor", "run").path
    found = parts(lake)

    class Finishing(Store):
        reads = 0

        def get(self, path: str) -> bytes | None:
            if path == manifest_path:
                self.reads += 1
                if self.reads == 2:
                    self.put(path, manifest_of(found))
            return super().get(path)

    store = Finishing(lake.store.places)
    report = sweep(type(lake)(store, lake.catalog), clock)
    assert (report.spared, report.orphans) == (2, ())
    assert parts(lake) == found


def manifest_of(paths: list[str]) -> bytes:
    references = tuple(PartRef(path, "jsonl", 1, 9, "") for path in paths)
    key = ExtractPartKey.parse(paths[0])
    return Manifest(
        *("vendor", "ticks", None, "run", key.extracted_ms, None, None, {}, references)
    ).to_bytes()


def test_damaged_manifest_is_refused_and_nothing_deleted(lake: Any, clock: ManualClock) -> None:
    land_half(lake, clock, "half")
    land(lake, clock, "whole")
    lake.store.put(ExtractManifestKey("vendor", "whole").path, b"{")
    clock.sleep(100 * 3_600)
    with pytest.raises(FatalError, match="is not a manifest"):
        sweep(lake, clock)
    assert len(parts(lake)) == 5


def test_feed_is_refused(small_lake: Any, clock: ManualClock) -> None:
    small_lake.land_trades(10)
    with pytest.raises(ConfigError, match="kept for ever"):
        remove_orphan_parts(small_lake.lake, "trades", apply=True, clock=clock)
    assert "trades" not in extract_sources(small_lake.lake)


def test_other_objects_of_a_source_are_left_alone(lake: Any, clock: ManualClock) -> None:
    land_half(lake, clock, "half")
    note = "bronze/source=vendor/README"
    lake.store.put(note, b"mine")
    clock.sleep(10_000 * 3_600)
    sweep(lake, clock)
    assert lake.store.exists(note)
    assert extract_sources(lake) == ("vendor",)


def test_source_without_objects_has_no_orphans(lake: Any, clock: ManualClock) -> None:
    assert sweep(lake, clock).orphans == ()


def test_short_grace_is_refused(lake: Any, clock: ManualClock) -> None:
    with pytest.raises(ConfigError, match="expected at least"):
        sweep(lake, clock, grace_hours=0.5)
