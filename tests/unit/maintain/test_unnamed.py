"""What lies in Bronze and nothing names is found, with the reason; all else is left in peace."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from batch.aws.lineage_event import BronzeHour
from batch.maintain.unnamed import HourReport, find_unnamed
from stream.clock import to_utc
from stream.errors import ConfigError, FatalError
from stream.lake.layout import BronzeKey, ExtractManifestKey, ExtractPartKey, LedgerKey
from stream.sources.extract import Manifest, PartRef


def hour_of(worn: Any) -> BronzeHour:
    """The hour in which the lake's first slice arrived."""
    bronze = BronzeKey.parse(worn.small.results[0].record.bronze.path)
    moment = to_utc(worn.small.results[0].record.arrival_ns[0])
    assert bronze.hour == moment.hour
    return BronzeHour("trades", moment.replace(minute=0, second=0, microsecond=0))


def look(worn: Any, place: BronzeHour, **options: Any) -> HourReport:
    worn.stamp()
    (report,) = find_unnamed(worn.small.lake, [place], clock=worn.small.clock, **options)
    return report


def put(worn: Any, path: str) -> str:
    worn.store.put(path, b"x")
    worn.stamp()
    return path


def other_slice(worn: Any, number: int) -> str:
    """An object of a slice of the lake's shard that begins with record `number`."""
    record = worn.small.results[0].record
    return put(worn, BronzeKey.of(record.shard, str(number), record.arrival_ns[0]).path)


def test_committed_slices_are_named(worn_lake: Any) -> None:
    worn_lake.land()
    worn_lake.land()
    place = hour_of(worn_lake)
    worn_lake.pass_hours(5)
    report = look(worn_lake, place)
    assert (report.objects, report.named, report.waiting, report.unnamed) == (2, 2, 0, ())
    assert report.bytes > 0


def test_slice_that_was_compacted_or_replayed_is_still_named(worn_lake: Any) -> None:
    for _ in range(3):
        worn_lake.land()
    place = hour_of(worn_lake)
    assert worn_lake.compact()
    assert worn_lake.replay(0, is_reversed=True)
    worn_lake.pass_hours(5)
    assert look(worn_lake, place).unnamed == ()


def test_slice_without_a_commit_waits_and_is_stalled_after_the_grace(worn_lake: Any) -> None:
    worn_lake.land()
    place, path = hour_of(worn_lake), other_slice(worn_lake, 10**30)
    worn_lake.pass_hours(0.2)
    report = look(worn_lake, place)
    assert (report.named, report.waiting, report.unnamed) == (1, 1, ())
    worn_lake.pass_hours(0.2)
    report = look(worn_lake, place)
    assert [(item.why, item.path) for item in report.unnamed] == [("stalled", path)]
    row = report.to_row()
    assert (row["stalled"], row["orphan"], row["oldest_unnamed_minutes"]) == (1, 0, 24)
    assert look(worn_lake, place, grace_minutes=60).waiting == 1


def test_slice_that_the_ledger_went_past_is_an_orphan(worn_lake: Any) -> None:
    worn_lake.land()
    worn_lake.land()
    inside = int(worn_lake.small.results[0].record.first) + 1
    path = other_slice(worn_lake, inside)
    place = hour_of(worn_lake)
    worn_lake.pass_hours(1)
    report = look(worn_lake, place)
    assert [(item.why, item.path) for item in report.unnamed] == [("orphan", path)]
    assert report.named == 2


def test_slice_of_a_feed_that_never_committed_is_stalled(worn_lake: Any) -> None:
    worn_lake.land()
    record = worn_lake.small.results[0].record
    news = type(record.shard)("news", "headrace-news.00000000", "shard-0")
    path = put(worn_lake, BronzeKey.of(news, "1", record.arrival_ns[0]).path)
    place = BronzeHour("news", hour_of(worn_lake).hour)
    worn_lake.pass_hours(1)
    assert [(i.why, i.path) for i in look(worn_lake, place).unnamed] == [("stalled", path)]


def test_stray_object_is_named_after_the_grace(worn_lake: Any) -> None:
    worn_lake.land()
    place = hour_of(worn_lake)
    put(worn_lake, place.prefix + "notes.txt")
    worn_lake.pass_hours(1)
    assert [item.why for item in look(worn_lake, place).unnamed] == ["stray"]


def test_part_is_named_by_its_manifest_and_unfinished_when_its_youngest_part_is_old(
    worn_lake: Any,
) -> None:
    at_ms = worn_lake.small.clock.now_ns() // 1_000_000
    moment = to_utc(at_ms * 1_000_000).replace(minute=0, second=0, microsecond=0)
    place = BronzeHour("fmp", moment)
    keys = [ExtractPartKey("fmp", "run-1", at_ms, batch, "json") for batch in (0, 1)]
    put(worn_lake, keys[0].path)
    worn_lake.pass_hours(0.2)
    put(worn_lake, keys[1].path)
    worn_lake.pass_hours(0.2)
    assert look(worn_lake, place).waiting == 2, "the extract still goes on"
    worn_lake.pass_hours(0.2)
    assert [item.why for item in look(worn_lake, place).unnamed] == ["unfinished"] * 2

    parts = tuple(PartRef(key.path, "json", 1, 1, "0") for key in keys)
    manifest = Manifest("fmp", "quotes", None, "run-1", at_ms, None, None, {}, parts)
    worn_lake.store.put_once(ExtractManifestKey("fmp", "run-1").path, manifest.to_bytes())
    report = look(worn_lake, place)
    assert (report.named, report.unnamed) == (2, ())


def test_hours_are_looked_through_once_each_and_empty_ones_are_reported(worn_lake: Any) -> None:
    worn_lake.land()
    place = hour_of(worn_lake)
    empty = BronzeHour("trades", place.hour - timedelta(hours=1))
    reports = find_unnamed(worn_lake.small.lake, [place, empty, place], clock=worn_lake.small.clock)
    assert [(report.hour, report.objects) for report in reports] == [
        (empty.hour, 0),
        (place.hour, 1),
    ]


@pytest.mark.parametrize("grace", [0, -1, 10**9])
def test_grace_that_is_none_is_refused(worn_lake: Any, grace: int) -> None:
    with pytest.raises(ConfigError, match=f"grace_minutes is {grace}; give 1 to"):
        find_unnamed(worn_lake.small.lake, [], grace_minutes=grace)


def test_damaged_ledger_accuses_nobody(worn_lake: Any) -> None:
    worn_lake.land()
    place = hour_of(worn_lake)
    newest = max(worn_lake.paths(LedgerKey.prefix("trades")))
    worn_lake.store.delete(newest)
    with pytest.raises(FatalError, match="run `headrace prove trades`"):
        look(worn_lake, place)
