"""The crash windows, each by name: where the process dies or stalls, and what happens meanwhile.

A window is played against a dataflow under load. `play` starts it with a failpoint armed, brings
the window about, proves that it was open (an object without an entry, a table ahead of its bars),
and leaves the case to a restart. What must hold afterwards is the same for all (`crash_checks`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from crash_checks import bronze_hashes, uncommitted_bronze
from crash_nursery import Child
from crash_stage import PATIENCE_SECONDS, Case

from stream.bar_keeper import NUMBER, TABLE
from stream.prove import prove

Play = Callable[[Case, int], None]


@dataclass(frozen=True)
class Window:
    """`hits`: at which call the failpoint fires; the first is the slow stage's, `many.py` draws.

    `prepare` comes before the load. `forget`: what the stream does while nobody reads it.
    `has_gap`: whether the ledger must name a gap afterwards.
    """

    name: str
    play: Play
    hits: range
    prepare: Callable[[Case], None] | None = None
    forget: Callable[[Case], None] | None = None
    has_gap: bool = False
    is_variant: bool = False


def read_not_put(case: Case, hit: int) -> None:
    child = case.start(f"slice-read=kill@{hit}")
    case.wait_killed(child, "slice-read: kill")
    assert len(bronze_hashes(case)) < hit, "the slice is in Bronze"


def put_not_acknowledged(case: Case, hit: int) -> None:
    child = case.start(f"bronze-put-done=kill@{hit}")
    case.wait_killed(child, "bronze-put-done: kill")
    assert uncommitted_bronze(case), "every Bronze object is committed"


def acknowledgement_lost(case: Case, hit: int) -> None:
    """The same with a process that lives and is told that the PUT failed: it ends by itself."""
    child = case.start(f"bronze-put-done=error@{hit}")
    case.wait_fired(child, "bronze-put-done: error")
    assert child.wait(PATIENCE_SECONDS) == 1, child.words()
    assert uncommitted_bronze(case), "every Bronze object is committed"


def bronze_not_silver(case: Case, hit: int) -> None:
    """A data file's thread is held, so its slice's Silver is not whole, until every Bronze object
    that was begun is stored; then all die.
    """
    child = case.start(f"silver-put=pause:3600@{hit}")
    case.wait_fired(child, "silver-put: pause")
    seen: list[int] = []

    def is_settled() -> bool:
        seen.append(len(uncommitted_bronze(case)))
        return len(seen) > 20 and seen[-1] > 0 and len(set(seen[-20:])) == 1

    case.wait(is_settled, "no Bronze object without a commit")
    child.send(signal.SIGKILL)
    assert child.wait(PATIENCE_SECONDS) == -signal.SIGKILL, child.words()
    assert uncommitted_bronze(case), "every Bronze object is committed"


def commit_refused(case: Case, hit: int) -> None:
    """Another instance commits the same slices first; the loser dies of it."""
    child = case.start(f"commit-send=stop@{hit}; commit-refused=kill")
    case.wait_stopped(child, "commit-send: stop")
    _overtake(case)
    child.send(signal.SIGCONT)
    case.wait_killed(child, "commit-refused: kill")


def response_lost(case: Case, hit: int) -> None:
    child = case.start(f"commit-response=error@{hit}")
    case.wait_fired(child, "commit-response: error")
    _go_on(case, child)


def landed_unknown(case: Case, hit: int) -> None:
    child = case.start(f"commit-response=kill@{hit}")
    case.wait_killed(child, "commit-response: kill")
    assert case.entries()[-1].number == hit, "the commit did not land"


def landed_without_bars(case: Case, hit: int) -> None:
    child = case.start(f"commit-landed=kill@{hit}")
    case.wait_killed(child, "commit-landed: kill")
    _check_bars_behind(case)


def bars_not_sent(case: Case, hit: int) -> None:
    child = case.start(f"bars-send=kill@{hit}")
    case.wait_killed(child, "bars-send: kill")
    _check_bars_behind(case)


def zombie_commits(case: Case, hit: int) -> None:
    """Frozen before its commit; another instance goes on; then it thaws and sends the commit."""
    child = case.start(f"commit-send=stop@{hit}; commit-refused=pause:0")
    case.wait_stopped(child, "commit-send: stop")
    _overtake(case)
    child.send(signal.SIGCONT)
    case.wait_fired(child, "commit-refused: pause")


def zombie_writes(case: Case, hit: int) -> None:
    """Frozen before it writes to Bronze; what it writes when it thaws is there already."""
    child = case.start(f"slice-read=stop@{hit}; commit-refused=pause:0")
    case.wait_stopped(child, "slice-read: stop")
    _overtake(case)
    child.send(signal.SIGCONT)


def compacted_meanwhile(case: Case, hit: int) -> None:
    child = case.start(f"commit-send=stop@{hit}; commit-refused=pause:0")
    case.wait_stopped(child, "commit-send: stop")
    _compact(case)
    child.send(signal.SIGCONT)
    case.wait_fired(child, "commit-refused: pause")
    _go_on(case, child)


def compaction_overtaken(case: Case, hit: int) -> None:
    """The other way round: the dataflow commits between a compaction's read and its commit."""
    child = case.start()
    case.wait(lambda: len(_slice_entries(case)) >= hit, "no commits")
    compaction = case.start("compact-send=stop", *COMPACT)
    case.wait_stopped(compaction, "compact-send: stop")
    before = len(case.entries())
    case.wait(lambda: len(case.entries()) > before, "no commit meanwhile")
    compaction.send(signal.SIGCONT)
    assert compaction.wait(PATIENCE_SECONDS) == 0, compaction.words()
    assert any(entry.kind == "compact" for entry in case.entries())
    _go_on(case, child)


def snapshots_expired(case: Case, hit: int) -> None:
    """All but the newest, while a commit on top of it is under way: it lands."""
    child = case.start(f"commit-send=stop@{hit}")
    case.wait_stopped(child, "commit-send: stop")
    case.run(None, *EXPIRE)
    assert case.lake.catalog.open("trades").snapshot_count == 1
    child.send(signal.SIGCONT)
    _go_on(case, child)


def expiry_killed(case: Case, hit: int) -> None:
    """An expiry chose its snapshots, the dataflow commits, the expiry dies; the next one lands."""
    child = case.start()
    case.wait(lambda: len(_slice_entries(case)) >= hit, "no commits")
    expiry = case.start("expire-send=stop; expire-send=kill", *EXPIRE)
    case.wait_stopped(expiry, "expire-send: stop")
    _go_on(case, child)
    expiry.send(signal.SIGCONT)
    case.wait_killed(expiry, "expire-send: kill")
    case.run(None, *EXPIRE)
    _go_on(case, child)


def rolled_back(case: Case, hit: int) -> None:
    """Somebody rolls the table back while nobody writes; `prove` says so, and it is rolled on.

    The positions are ahead of the rows then, so that the dataflow alone would never notice.
    """
    child = case.start(f"commit-landed=kill@{hit}")
    case.wait_killed(child, "commit-landed: kill")
    table = case.lake.catalog.open("trades").iceberg
    newest = table.current_snapshot()
    assert newest is not None
    assert newest.parent_snapshot_id is not None
    for snapshot_id, is_whole in ((newest.parent_snapshot_id, False), (newest.snapshot_id, True)):
        with table.manage_snapshots() as manage:
            manage.set_current_snapshot(snapshot_id)
        assert prove(case.settings, "trades", threads=2).is_equal == is_whole


def compaction_killed(case: Case, hit: int) -> None:
    """Killed before it publishes: its file is an orphan, and the next compaction lands."""
    child = case.start()
    case.wait(lambda: len(_slice_entries(case)) >= hit, "no commits")
    compaction = case.start("compact-send=kill", *COMPACT)
    case.wait_killed(compaction, "compact-send: kill")
    _compact(case)
    _go_on(case, child)


def catalog_stale(case: Case, hit: int) -> None:
    """The response of a commit is lost, and the catalog then shows what was there before it."""
    child = case.start(f"commit-response=error@{hit}; ledger-head=skip@1-12")
    case.wait_fired(child, "commit-response: error")
    _go_on(case, child)
    told = child.words().partition("failpoint commit-response: error")[2]
    assert "failpoint ledger-head: skip" in told, f"fresh after the lost response\n{told}"


def killed_before_commit(case: Case, hit: int) -> None:
    """Then no restart can commit what is in Bronze: the stream lost it."""
    child = case.start(f"commit-send=kill@{hit}")
    case.wait_killed(child, "commit-send: kill")
    assert uncommitted_bronze(case), "every Bronze object is committed"


def killed_when_committed(case: Case, hit: int) -> None:
    child = case.start(f"commit-landed=kill@{hit}")
    case.wait_killed(child, "commit-landed: kill")
    assert not uncommitted_bronze(case), "Bronze is ahead of the ledger"


EXPIRE = ("expire-snapshots", "trades", "--keep-hours", "0", "--keep-last", "1", "--apply")
COMPACT = ("compact", "trades", "--to", "2100-01-01", "--apply")


def _compact(case: Case) -> None:
    case.run(None, *COMPACT)
    assert any(entry.kind == "compact" for entry in case.entries()), "nothing was compacted"


def _overtake(case: Case) -> None:
    """A second instance starts and commits."""
    before = len(case.entries())
    case.start()
    case.wait(lambda: len(case.entries()) > before + 1, "the second instance does not commit")


def _go_on(case: Case, child: Child) -> None:
    """The process that met the window is alive and commits again."""
    before = len(case.entries())
    case.wait(
        lambda: len(case.entries()) > before or case.committed_records() >= case.records,
        "no commit afterwards",
    )
    assert child.poll() is None, child.words()


def _slice_entries(case: Case) -> list[object]:
    return [entry for entry in case.entries() if entry.slices]


def _check_bars_behind(case: Case) -> None:
    bars = case.lake.catalog.open(TABLE).properties if TABLE in case.lake.catalog.names() else {}
    assert int(bars.get(NUMBER, "0")) < case.entries()[-1].number, "the bars are up to date"


def _variant(name: str, play: Play, hits: range) -> Window:
    return Window(name, play, hits, is_variant=True)


WINDOWS = (
    Window("1 after read before PUT", read_not_put, range(3, 10)),
    Window("2 PUT done, ack lost", put_not_acknowledged, range(3, 10)),
    _variant("2 PUT done, ack lost to a living process", acknowledgement_lost, range(3, 10)),
    Window("3 Bronze done, Silver not", bronze_not_silver, range(3, 10)),
    Window("4 data files written, commit refused", commit_refused, range(2, 5)),
    Window("5 commit landed, response lost", response_lost, range(2, 5)),
    Window("6 commit landed, process dies before it knows", landed_unknown, range(3, 5)),
    _variant("6 commit landed, process dies before bars", landed_without_bars, range(2, 5)),
    _variant("6 commit landed, bars written but not committed", bars_not_sent, range(2, 5)),
    Window("7 zombie commits after another took over", zombie_commits, range(2, 5)),
    _variant("7 zombie writes after another took over", zombie_writes, range(3, 8)),
    Window("8 compaction commits between read and commit", compacted_meanwhile, range(4, 6)),
    _variant("8 commit between a compaction's read and commit", compaction_overtaken, range(2, 4)),
    _variant("8 compaction killed before its commit", compaction_killed, range(2, 4)),
    Window("9 snapshots expired", snapshots_expired, range(4, 6)),
    _variant("9 expiry killed before its commit", expiry_killed, range(3, 5)),
    _variant("9 table rolled back", rolled_back, range(4, 6)),
    Window("10 catalog returns stale metadata", catalog_stale, range(2, 4)),
    Window(
        "11 stream deleted and re-created with the same name",
        killed_when_committed,
        range(3, 5),
        forget=Case.recreate_stream,
    ),
    Window(
        "13 position older than retention",
        killed_when_committed,
        range(3, 5),
        prepare=Case.age_records,
        forget=Case.expire_records,
        has_gap=True,
    ),
    Window(
        "13 position older than retention, Bronze ahead of it",
        killed_before_commit,
        range(3, 5),
        prepare=Case.age_records,
        forget=Case.expire_records,
        has_gap=True,
        is_variant=True,
    ),
)
"""Numbers group the variants of one window; 12, a split and a merge, comes with any."""
