"""What a backfill says while it runs, and what it has to show at the end.

Counts while it runs are a courtesy. The report is made from the claims ledger, read again after
the last chunk: a backfill is complete when that says so, whoever did the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from batch.backfill.claims import ClaimRow, Result
from batch.backfill.plan import Chunk


@dataclass(frozen=True, slots=True)
class Progress:
    """Chunks by where they are. `rows` are those of chunks that are known to be done."""

    planned: int
    done: int
    running: int
    failed: int
    rows: int

    def __str__(self) -> str:
        """One line for a terminal.

        >>> print(Progress(planned=365, done=120, running=8, failed=1, rows=1_200_000))
        120/365 chunks done, 8 running, 1 failed, 1,200,000 rows
        """
        return (
            f"{self.done}/{self.planned} chunks done, {self.running} running, "
            f"{self.failed} failed, {self.rows:,} rows"
        )


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """The outcome of one run over all planned chunks.

    `done_before`: done when it began. `done_now`: completed by this run; those that other runs
    did meanwhile are `done_elsewhere`. `failed`: why, by key. `open_keys`: neither done nor
    failed (a stopped run leaves some). `lost`: chunks that were fetched, or even landed, after
    their lease had gone to another owner; they count as the other's. `stopped`: why it ended
    before its end, if it did.
    """

    planned: int
    done_before: int
    done_now: int
    failed: Mapping[str, str]
    open_keys: tuple[str, ...]
    lost: int
    seconds: float
    stopped: str | None
    chunks: tuple[tuple[Chunk, ClaimRow], ...]

    @property
    def results(self) -> dict[str, Result]:
        """What landing said of every chunk that is done, by key."""
        return {row.key: row.result for _, row in self.chunks if row.state == "done"}

    @property
    def is_complete(self) -> bool:
        """Whether every planned chunk is done, by this run or any other."""
        return len(self.results) == self.planned

    @property
    def done_elsewhere(self) -> int:
        """Chunks that other runs completed while this one ran."""
        return len(self.results) - self.done_before - self.done_now

    @property
    def days_touched(self) -> tuple[date, ...]:
        """The UTC days that may hold new rows, for whoever looks after tables and models.

        Of all chunks that are done and brought rows, whichever run did them: a run that died
        before it could tell leaves that to the next. A landing that knows its days better than
        the plan says so in its result: `days`, ISO days with commas between.
        """
        days = {day for chunk, row in self.chunks for day in _days_of(chunk, row)}
        return tuple(sorted(days))

    @property
    def rows(self) -> int:
        """Rows of all chunks that are done."""
        return sum(rows_of(result) for result in self.results.values())

    def to_rows(self) -> list[dict[str, str | int | float]]:
        """One line a chunk, for a table on a screen or in an artifact."""
        return [
            {
                "chunk": row.key,
                "days": len(chunk.days),
                "state": row.state,
                "attempts": row.attempts,
                "owner": row.owner or "",
                "rows": rows_of(row.result),
                "seconds": _seconds(row),
                "error": row.error or "",
            }
            for chunk, row in self.chunks
        ]

    def __str__(self) -> str:
        """A few words for a terminal and a log."""
        parts = [
            f"{len(self.results)}/{self.planned} chunks done ({self.done_before} before, "
            f"{self.done_now} now, {self.done_elsewhere} by other runs)",
            f"{len(self.failed)} failed",
            f"{len(self.open_keys)} open",
            f"{self.rows:,} rows",
            f"{self.seconds:.1f} s",
        ]
        return ", ".join(parts) + (f"; stopped: {self.stopped}" if self.stopped else "")


def rows_of(result: Result) -> int:
    """The number of rows that a result names; 0 if it names none."""
    rows = result.get("rows", 0)
    return rows if isinstance(rows, int) else 0


def _days_of(chunk: Chunk, row: ClaimRow) -> list[date]:
    if row.state != "done" or row.result.get("rows") == 0:
        return []
    if "days" in row.result:
        named = str(row.result["days"])
        return [date.fromisoformat(day) for day in named.split(",") if day]
    return chunk.days


def _seconds(row: ClaimRow) -> float:
    return (row.ended_ms - row.claimed_ms) / 1000 if row.ended_ms and row.claimed_ms else 0
