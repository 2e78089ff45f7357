"""The top folders of the lake's buckets, as the runtime's layout builds keys below them."""

from __future__ import annotations

from datetime import date

from stream.lake.layout import (
    GOLD,
    QUERY_RESULTS,
    ClosedShardKey,
    DbtArtifactKey,
    LedgerKey,
    QuarantineKey,
    SilverKey,
)
from stream.slices import ShardRef

__all__ = [
    "CI",
    "CLOSED",
    "DBT_ARTIFACTS",
    "FLOW_RESULTS",
    "GOLD",
    "LEDGER",
    "QUARANTINE",
    "QUERY_RESULTS",
    "SILVER",
]


def _top(path: str) -> str:
    return f"{path.partition('/')[0]}/"


SILVER = _top(SilverKey("x", date(2000, 1, 1), "x", "0" * 16).path)
QUARANTINE = _top(QuarantineKey.of(ShardRef("x", "-", "-"), "0", 0, "").path)
LEDGER = _top(LedgerKey.prefix("x"))
CLOSED = _top(ClosedShardKey.prefix("x"))
DBT_ARTIFACTS = _top(DbtArtifactKey("x", "x.json").path)
FLOW_RESULTS = "results/"
"""What Prefect's flows return (deploy/prefect/resources.yaml, block `results`)."""
CI = "ci/"
"""What dbt builds for a pull request."""
