"""A real backfill in a process of its own, for tests that kill it; started by path.

Landing a chunk is a line in a file, written durably before the chunk is completed: the file then
tells how often each chunk was landed, whatever the ledger says.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import date, timedelta
from pathlib import Path

from batch.aws.claim_table import DynamoClaims
from batch.backfill.claims import Claims, SqliteClaims
from batch.backfill.plan import Chunk, plan_days
from batch.backfill.run import run_backfill
from stream.clock import SYSTEM_CLOCK

FIRST = date(2025, 1, 1)


def main(ledger: str, landed: str, owner: str, days: int, lease_seconds: float) -> None:
    chunks = plan_days("fmp", "prices_daily", FIRST, FIRST + timedelta(days=days - 1))
    file = os.open(landed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def fetch(chunk: Chunk) -> str:
        SYSTEM_CLOCK.sleep(0.01 * (1 + chunk.first_day.toordinal() % 6))
        return chunk.key

    def land(batch: list[tuple[Chunk, str]]) -> list[dict[str, int | str]]:
        lines = "".join(f"{key} {os.getpid()}\n" for _, key in batch)
        os.write(file, lines.encode())
        os.fsync(file)
        SYSTEM_CLOCK.sleep(0.01)  # a kill here leaves chunks that are landed and not done
        return [{"rows": 1} for _ in batch]

    report = run_backfill(
        open_claims(ledger),
        chunks,
        fetch,
        land,
        owner=owner,
        parallel_days=4,
        lease_seconds=lease_seconds,
    )
    counts = {"done": report.done_now, "lost": report.lost, "text": str(report)}
    print(json.dumps({**counts, "is_complete": report.is_complete}))


def open_claims(ledger: str) -> Claims:
    kind, _, name = ledger.partition(":")
    return SqliteClaims(Path(name)) if kind == "sqlite" else DynamoClaims(name)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
