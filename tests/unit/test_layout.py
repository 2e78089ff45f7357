"""Object keys: what they look like, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stream.lake.layout import BronzeKey, LedgerKey, QuarantineKey, SilverKey
from stream.slices import ShardRef

SHARD = ShardRef("trades", "headrace-trades.0a1b2c3d", "shardId-000000000003")
NOON_NS = 1_764_000_000_000_000_000


def test_bronze_key_shows_feed_hour_shard_and_first_record() -> None:
    assert BronzeKey.of(SHARD, "42", NOON_NS).path == (
        "bronze/source=trades/year=2025/month=11/day=24/hour=16/"
        f"headrace-trades.0a1b2c3d-shardId-000000000003-{'42':0>56}.parquet"
    )


def test_bronze_prefix_of_an_hour_holds_its_keys() -> None:
    hour = datetime(2025, 11, 24, 16, tzinfo=UTC)
    assert BronzeKey.of(SHARD, "42", NOON_NS).path.startswith(BronzeKey.prefix("trades", hour))


def test_keys_of_two_lives_of_a_stream_differ() -> None:
    other = ShardRef("trades", "headrace-trades.ffffffff", SHARD.shard)
    assert BronzeKey.of(SHARD, "1", 0).path != BronzeKey.of(other, "1", 0).path


@pytest.mark.parametrize("kind", [BronzeKey, SilverKey, QuarantineKey, LedgerKey])
@pytest.mark.parametrize(
    "path",
    ["", "bronze/", "bronze/source=trades/x.parquet", "../etc/passwd", "ledger/feed=a/1.json"],
)
def test_parse_of_another_path_is_refused(kind: type, path: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        kind.parse(path)
