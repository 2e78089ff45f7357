"""The top folders of the lake's buckets, as the runtime's layout builds keys below them."""

from __future__ import annotations

from datetime import date

from stream.lake.layout import (
    ClosedShardKey,
    DbtArtifactKey,
    GoldBuildKey,
    LedgerKey,
    QuarantineKey,
    SilverKey,
)
from stream.slices import ShardRef


def _top(path: str) -> str:
    return f"{path.partition('/')[0]}/"


SILVER = _top(SilverKey("x", date(2000, 1, 1), "x", "0" * 16).path)
QUARANTINE = _top(QuarantineKey.of(ShardRef("x", "-", "-"), "0", 0, "").path)
LEDGER = _top(LedgerKey.prefix("x"))
CLOSED = _top(ClosedShardKey.prefix("x"))
GOLD = _top(GoldBuildKey.prefix("x"))
DBT_ARTIFACTS = _top(DbtArtifactKey("x", "x.json").path)
RESULTS = "athena-results/"
"""What Athena leaves of each statement; the workgroups put it there."""
FLOW_RESULTS = "results/"
"""What Prefect's flows return (deploy/prefect/resources.yaml, block `results`)."""
CI = "ci/"
"""What dbt builds for a pull request."""
