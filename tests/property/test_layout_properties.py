"""Every object key reads back as what it was built from, and lies in one zone."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.lake.layout import (
    QUERY_RESULTS,
    ZONES,
    BronzeKey,
    ClosedShardKey,
    DbtArtifactKey,
    ExtractManifestKey,
    ExtractPartKey,
    GoldBuildKey,
    LedgerKey,
    QuarantineKey,
    SilverKey,
    derived_folder,
    silver_folder,
)
from stream.lake.places import Place, Places
from stream.slices import ShardRef

FEEDS = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
STREAMS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}\.[0-9a-f]{8}", fullmatch=True)
SHARDS = st.from_regex(r"shardId-[0-9]{12}|part-[0-9]{1,5}|[A-Za-z0-9_]{1,20}", fullmatch=True)
REFERENCES = st.builds(ShardRef, FEEDS, STREAMS, SHARDS)
NUMBERS = st.integers(0, 10**56 - 1).map(str)
ARRIVALS = st.integers(0, 4_102_444_800_000_000_000)
DAYS = st.dates(date(1970, 1, 1), date(2099, 12, 31))
DIGESTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
RUNS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", fullmatch=True)
COUNTS = st.integers(0, 10**6 - 1)
MS = ARRIVALS.map(lambda ns: ns // 10**6)
TARGETS = st.sampled_from(["local", "athena"])
NAMES = st.sampled_from(["manifest.json", "static_index.html"])
SUFFIXES = st.sampled_from(["json", "jsonl.gz", "parquet"])

PATHS = {
    "bronze": st.one_of(
        st.builds(lambda *a: BronzeKey.of(*a).path, REFERENCES, NUMBERS, ARRIVALS),
        st.builds(lambda *a: ExtractPartKey(*a).path, FEEDS, RUNS, MS, COUNTS, SUFFIXES),
        st.builds(lambda *a: ExtractManifestKey(*a).path, FEEDS, RUNS),
    ),
    "gold": st.one_of(
        st.builds(lambda *a: GoldBuildKey(*a).path, TARGETS, COUNTS),
        st.builds(derived_folder, st.sampled_from(["ledger", "absent"]), FEEDS),
    ),
    "artifacts": st.one_of(
        st.builds(lambda *a: DbtArtifactKey(*a).path, TARGETS, NAMES, st.none() | COUNTS),
        RUNS.map(lambda name: f"{QUERY_RESULTS}{name}.csv"),
    ),
    "lake": st.one_of(
        st.builds(lambda *a: SilverKey.of_slice(*a).path, REFERENCES, NUMBERS, DAYS, DIGESTS),
        st.builds(lambda *a: QuarantineKey.of(*a).path, REFERENCES, NUMBERS, ARRIVALS, DIGESTS),
        st.builds(lambda *a: LedgerKey(*a).path, FEEDS, COUNTS, DIGESTS),
        st.builds(lambda *a: ClosedShardKey(*a).path, FEEDS, STREAMS, SHARDS),
        st.builds(silver_folder, FEEDS),
    ),
}
"""Zone → every kind of path that lies in it; "lake": in the lake itself."""
ROOTS = (
    *("s3://a", "s3://ab", "s3://b/bronze", "s3://b/bronze2", "s3://b/gold/bronze"),
    *("file:///a", "file:///ab/bronze", "file:///ab/b"),
)
"""Addresses that lie side by side, and nearly do not."""
FOUR_ROOTS = st.permutations(ROOTS).map(lambda roots: roots[:4])


@given(REFERENCES, NUMBERS, ARRIVALS)
def test_bronze_key_reads_back(shard: ShardRef, first: str, arrival_ns: int) -> None:
    key = BronzeKey.of(shard, first, arrival_ns)
    assert BronzeKey.parse(key.path) == key
    assert key.path.startswith(BronzeKey.prefix(shard.feed))


@given(REFERENCES, NUMBERS, DAYS, DIGESTS)
def test_silver_key_reads_back(shard: ShardRef, last: str, day: date, digest: str) -> None:
    for key in (
        SilverKey.of_slice(shard, last, day, digest),
        SilverKey.of_redrive(shard, last, day, digest),
    ):
        assert SilverKey.parse(key.path) == key


@given(REFERENCES, NUMBERS, ARRIVALS, DIGESTS)
def test_quarantine_key_reads_back(
    shard: ShardRef, first: str, arrival_ns: int, digest: str
) -> None:
    key = QuarantineKey.of(shard, first, arrival_ns, digest)
    assert QuarantineKey.parse(key.path) == key


@given(FEEDS, st.integers(0, 10**12 - 1), DIGESTS)
def test_ledger_key_reads_back(feed: str, number: int, digest: str) -> None:
    key = LedgerKey(feed, number, digest[:16])
    assert LedgerKey.parse(key.path) == key
    assert LedgerKey(feed, number, digest).path == key.path


@given(REFERENCES, NUMBERS, NUMBERS, ARRIVALS)
def test_bronze_keys_of_an_hour_sort_by_sequence_number(
    shard: ShardRef, one: str, two: str, arrival_ns: int
) -> None:
    first, second = (BronzeKey.of(shard, number, arrival_ns).path for number in (one, two))
    assert (first < second) == (int(one) < int(two))


def open_places(roots: list[str]) -> Places:
    """Places at the roots of the lake, Bronze, Gold and artifacts; of none but their addresses."""
    found = {root: Place(None, root) for root in roots}
    zones = dict(zip(("bronze", "gold", "artifacts"), roots[1:], strict=True))
    return Places(found[roots[0]], {folder: found[zones[zone]] for folder, zone in ZONES.items()})


@pytest.mark.parametrize("zone", PATHS)
@given(st.data(), FOUR_ROOTS)
def test_key_lies_in_the_bucket_of_its_zone_and_its_address_leads_back(
    zone: str, data: st.DataObject, roots: list[str]
) -> None:
    path, places = data.draw(PATHS[zone]), open_places(roots)
    root = roots[("lake", "bronze", "gold", "artifacts").index(zone)]
    assert places.uri(path) == f"{root}/{path}"
    assert places.relative(places.uri(path)) == path
    listed = [(place.root, prefix) for place, prefix in places.below("")]
    holding = {r for r, prefix in listed if path.startswith(prefix) and places.of(path).root == r}
    assert holding == {root}, "a listing of the whole lake finds it, in one bucket"


@given(PATHS["bronze"], FOUR_ROOTS)
def test_address_that_no_key_has_stays_as_it_is(path: str, roots: list[str]) -> None:
    places = open_places(roots)
    for root in roots[:1] + roots[2:]:  # Bronze in a bucket that is not Bronze's
        assert places.relative(f"{root}/{path}") == f"{root}/{path}"
    assert places.relative(f"{roots[1]}x/{path}") == f"{roots[1]}x/{path}"


@given(st.sampled_from(sorted(PATHS)).flatmap(PATHS.__getitem__), st.sampled_from(ROOTS))
def test_lake_without_zones_keeps_every_address(path: str, root: str) -> None:
    for places in (Places(Place(None, root)), open_places([root] * 4)):
        assert (places.uri(path), places.roots) == (f"{root}/{path}", (root,))
        assert places.relative(f"{root}/{path}") == path
        assert [prefix for _, prefix in places.below("")] == [""]
