"""Play one crash window to its end: load, crash, restart, judge."""

from __future__ import annotations

import signal

from crash_checks import Verdict, bronze_hashes, committed_messages, judge_case
from crash_stage import PATIENCE_SECONDS, Case, Stage
from crash_windows import Window

MAX_RESTARTS = 5


def play_window(
    stage: Stage,
    window: Window,
    place: str,
    *,
    hit: int,
    seed: int = 7,
    reshards: bool = False,
    mutant: str | None = None,
) -> Verdict:
    """Bring a window about under load, restart, and say what was found.

    Raises: AssertionError when the window could not be brought about or a restart does not end.
    """
    case = stage.open_case(place, seed=seed, mutant=mutant)
    try:
        if window.prepare is not None:
            window.prepare(case)
        load = case.load(reshards=reshards)
        window.play(case, hit)
        bronze = bronze_hashes(case)
        load.finish()
        lost = _lose(case, window)
        finish(case)
        return judge_case(case, bronze=bronze, lost=lost)
    finally:
        case.close()


def _lose(case: Case, window: Window) -> set[bytes]:
    """Let the stream forget what it holds, then publish more; returns what nobody has any more."""
    if window.forget is None:
        return set()
    assert not case.living, "the window's process reads on"
    case.load().finish()  # while nobody reads
    window.forget(case)
    before = len(case.published)
    lost = {line for _, line in case.published} - committed_messages(case)
    assert lost, "everything was committed before the stream forgot it"
    case.records = case.committed_records()
    case.load().finish()
    return lost - {line for _, line in case.published[before:]}


def finish(case: Case) -> None:
    """Restart until everything is committed, then end as a deployment does: SIGTERM, exit 0.

    Raises: AssertionError when that does not happen.
    """
    restarts = 0

    def is_done() -> bool:
        nonlocal restarts
        if case.committed_records() >= case.records and _are_shards_ended(case):
            return True
        if not case.living:
            assert restarts < MAX_RESTARTS, f"{restarts} restarts\n{case.words()}"
            restarts += 1
            case.start()
        return False

    case.wait(is_done, "not everything is committed")
    if not case.living:
        case.start()
    if any(_stop(case)):  # who lost a race at the very end may have left bars to the next start
        case.start()
        assert _stop(case) == [0], case.words()


def _stop(case: Case) -> list[int]:
    living = case.living
    case.wait(
        lambda: all("opened in lane" in c.words() or c.poll() is not None for c in living),
        "has not started",
    )
    for child in living:
        child.send(signal.SIGTERM)
    return [child.wait(PATIENCE_SECONDS) for child in living]


def _are_shards_ended(case: Case) -> bool:
    """Whether the ledger ended every shard that the stream closed."""
    positions = case.ledger.head().positions
    return all(shard in positions and positions[shard].is_ended for shard in case.closed_shards())
