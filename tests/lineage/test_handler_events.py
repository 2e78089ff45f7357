"""What the handler makes of each message: an object, one that is none of ours, or poison."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from batch.aws.lineage_event import (
    MAX_BODY_CHARS,
    BronzeHour,
    Ignored,
    Landed,
    batch_key,
    is_later,
    parse_message,
)
from stream.errors import ConfigError, RecordRejected
from stream.lake.layout import ExtractManifestKey, ExtractPartKey, GoldBuildKey

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)

MISSING = object()


@pytest.fixture
def parse(lineage_kit):
    """What becomes of the announcement of a key, with some fields changed."""

    def read(key: object, **changes: object) -> Landed | Ignored:
        event = lineage_kit.created(key, **changes)
        return parse_message(json.dumps(event), {lineage_kit.BUCKET})

    return read


def test_slice_is_read_back_from_its_key(parse, lineage_kit):
    key = lineage_kit.slice_key(7)
    found = parse(key)
    assert (found.kind, found.place) == ("slice", BronzeHour("trades", NOON))
    assert found.object == f"{lineage_kit.BUCKET}/{key}"
    assert found.origin["shard"] == "shardId-000000000000"
    assert found.origin["first"].endswith("07")
    assert (found.bytes, found.event_ms) == (5_000, NOON_MS)
    assert (found.etag, found.sequencer[:4]) == ("b1946ac92492d2347c6235b4d2611184", "0061")


def test_part_and_manifest_of_an_extract_name_their_run(parse):
    part = parse(ExtractPartKey("fmp", "run-1", NOON_MS - 1, 0, "json").path)
    assert (part.kind, part.origin, part.place.hour.hour) == ("part", {"run_id": "run-1"}, 11)
    manifest = parse(ExtractManifestKey("fmp", "run-1").path)
    assert (manifest.kind, manifest.place) == ("manifest", BronzeHour("fmp", NOON))


def test_keys_are_taken_as_they_are_and_not_decoded(parse):
    key = ExtractPartKey("fmp", "run-1", NOON_MS, 0, "json").path.replace("=", "%3D")
    with pytest.raises(RecordRejected, match=r"^stray"):
        parse(key)


def test_test_event_of_s3_is_ignored():
    body = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"})
    assert parse_message(body) == Ignored("test event")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (GoldBuildKey("local", 1).path, "other zone"),
        ("silver/entity=trades/x.parquet", "other zone"),
        ("bronzed/x", "other zone"),
        ("bronze/source=trades/", "folder marker"),
    ],
)
def test_object_that_is_none_of_ours_is_ignored_with_its_reason(parse, key, reason):
    assert parse(key) == Ignored(reason)


def test_deletion_is_ignored(parse, lineage_kit):
    found = parse(lineage_kit.slice_key(), detail_type="Object Deleted")
    assert found == Ignored("not a new object")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not json"),
        ("not json", "not json"),
        ("{", "not json"),
        ("[" * 50_000, "not json"),
        ("9" * 5_000, "not json"),
        ("[]", "not an event"),
        ("null", "not an event"),
        ("{}", "not of s3"),
        (json.dumps("x" * MAX_BODY_CHARS), "too long"),
        (json.dumps({"Records": [{"eventSource": "aws:s3"}]}), "s3 notification"),
    ],
)
def test_body_that_is_no_event_is_poison(body, reason):
    with pytest.raises(RecordRejected) as caught:
        parse_message(body)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("source", "aws.ec2", "not of s3"),
        ("detail", MISSING, "not an event"),
        ("detail__bucket", MISSING, "not an event"),
        ("detail__bucket__name", "UPPER/../x", "name"),
        ("detail__object", MISSING, "not an event"),
        ("detail__object__key", MISSING, "key"),
        ("detail__object__etag", MISSING, "etag"),
        ("detail__object__size", MISSING, "size"),
        ("time", MISSING, "time"),
        ("time", "yesterday", "time"),
        ("time", "0001-01-01T00:00:00+14:00", "time"),
        ("time", 5, "time"),
        ("detail__object__etag", "", "etag"),
        ("detail__object__etag", "a\nb", "etag"),
        ("detail__object__etag", {"S": "x"}, "etag"),
        ("detail__object__size", -1, "size"),
        ("detail__object__size", True, "size"),
        ("detail__object__size", float("nan"), "size"),
        ("detail__object__size", 10**40, "size"),
        ("detail__object__sequencer", "xyz", "sequencer"),
    ],
)
def test_event_that_lies_about_its_object_is_poison(parse, lineage_kit, path, value, reason):
    value = lineage_kit.MISSING if value is MISSING else value
    with pytest.raises(RecordRejected) as caught:
        parse(lineage_kit.slice_key(), **{path: value})
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "key"),
        (None, "key"),
        ("bronze/" + "é" * 512, "key"),
        ("bronze/\ud800", "key"),
        ("bronze/source=börse/x.parquet", "stray"),
        ("bronze/source=trades/x.parquet", "stray"),
        ("bronze/../gold/x", "stray"),
    ],
)
def test_key_outside_the_layout_is_poison_and_shown_in_plain_letters(parse, key, reason):
    with pytest.raises(RecordRejected) as caught:
        parse(key)
    assert caught.value.reason == reason
    assert str(caught.value).replace("…", "").isascii()


@pytest.mark.parametrize(
    "change", [lambda key: key + "\n", lambda key: key.replace("month=11", "month=13"),
               lambda key: key.replace("hour=12", "hour=77")],
)  # fmt: skip
def test_key_that_is_nearly_one_of_ours_is_poison(parse, lineage_kit, change):
    with pytest.raises(RecordRejected, match=r"^stray"):
        parse(change(lineage_kit.slice_key()))


def test_other_bucket_is_poison_where_buckets_are_named_and_else_taken(lineage_kit):
    event = json.dumps(lineage_kit.created(lineage_kit.slice_key()))
    with pytest.raises(RecordRejected, match=r"unknown bucket.*expected \['other'\]"):
        parse_message(event, {"other"})
    assert isinstance(parse_message(event), Landed)


def test_sequencer_and_version_may_be_missing_and_quotes_are_no_part_of_an_etag(parse, lineage_kit):
    found = parse(
        lineage_kit.slice_key(),
        detail__object__etag='"ab12"',
        detail__object__sequencer=lineage_kit.MISSING,
        detail__object__version_id=lineage_kit.MISSING,
    )
    assert (found.etag, found.sequencer, found.version_id) == ("ab12", "", "")


def test_name_of_a_batch_follows_from_its_versions_and_nothing_else(parse, lineage_kit):
    first, second = lineage_kit.slice_key(1), lineage_kit.slice_key(2)
    one, two = parse(first), parse(second)
    again = parse(first, detail__object__size=9, detail__object__sequencer="01")
    assert batch_key([one, two]) == batch_key([two, one, again])
    assert batch_key([one]) != batch_key([one, two])
    assert batch_key([one]) != batch_key([parse(first, detail__object__etag="other")])


def test_sequencers_are_compared_from_the_left():
    assert is_later("0055AED6DCD90281E6", "0055AED6DCD90281E5")
    assert is_later("0055AED6E", "0055AED6DCD90281E5")
    assert not is_later("0055aed6dcd90281e5", "0055AED6DCD90281E5")


@pytest.mark.parametrize(
    "raw",
    [
        {}, {"source": "trades"}, {"source": "trades", "hour": "2026-11-23T12:30"},
        {"source": "trades", "hour": "tomorrow"}, {"source": "../x", "hour": "2026-11-23T12:00"},
        {"source": "trades", "hour": None}, {"source": 5, "hour": "2026-11-23T12:00"},
        {"source": "trades", "hour": "2026-11-23T12:00", "sql": "drop"}, [], "trades", None,
    ],
)  # fmt: skip
def test_parameter_that_is_no_hour_is_refused_with_an_example(raw):
    with pytest.raises(ConfigError, match="is no hour of Bronze: expected a source and"):
        BronzeHour.parse(raw)


def test_hour_survives_its_way_through_prefect():
    place = BronzeHour("trades", NOON)
    assert BronzeHour.parse(json.loads(json.dumps(place.to_parameter()))) == place
