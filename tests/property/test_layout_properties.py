"""Every object key reads back as what it was built from."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from stream.lake.layout import BronzeKey, LedgerKey, QuarantineKey, SilverKey
from stream.slices import ShardRef

FEEDS = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
STREAMS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}\.[0-9a-f]{8}", fullmatch=True)
SHARDS = st.from_regex(r"shardId-[0-9]{12}|part-[0-9]{1,5}|[A-Za-z0-9_]{1,20}", fullmatch=True)
REFERENCES = st.builds(ShardRef, FEEDS, STREAMS, SHARDS)
NUMBERS = st.integers(0, 10**56 - 1).map(str)
ARRIVALS = st.integers(0, 4_102_444_800_000_000_000)
DAYS = st.dates(date(1970, 1, 1), date(2099, 12, 31))
DIGESTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


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
