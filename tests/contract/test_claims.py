"""What every ledger of claims must do: SQLite, DynamoDB in moto, DynamoDB in the embedded AWS."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from batch.aws.claim_table import DynamoClaims
from batch.backfill.claims import ERROR_CHARS, ClaimRow, Claims, SqliteClaims
from batch.backfill.plan import plan_days
from batch.backfill.run import run_backfill
from stream.clock import ManualClock
from stream.errors import ConfigError, FatalError, StoreUnavailableError

_spec = importlib.util.spec_from_file_location(
    "emulator_fixtures", Path(__file__).parents[1] / "emulator" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
roto_url, roto = _fixtures.roto_url, _fixtures.roto
_NAMES = itertools.count()

KEY = "fmp/prices_daily/v1/2026-11-24"
LEASE = 60
START_MS = 1_764_000_000_000
Opener = Callable[[], Claims]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_MS * 1_000_000)


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield


@pytest.fixture(params=["sqlite", "moto", "roto"])
def open_claims(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> Iterator[Opener]:
    """Opens the same ledger, as each process that shares it would."""
    opened: list[SqliteClaims] = []

    def open_sqlite() -> Claims:
        opened.append(SqliteClaims(tmp_path / "claims.db", clock))
        return opened[-1]

    if request.param == "sqlite":
        yield open_sqlite
        for claims in opened:
            claims.close()
        return
    request.getfixturevalue(request.param)
    table = f"claims-{os.getpid()}-{next(_NAMES)}"
    DynamoClaims(table, clock).create_table()
    yield lambda: DynamoClaims(table, clock)


@pytest.fixture
def claims(open_claims: Opener) -> Claims:
    return open_claims()


def row_of(claims: Claims, key: str = KEY) -> ClaimRow:
    [row] = [row for row in claims.read(key) if row.key == key]
    return row


def test_claims_of_a_new_key_gives_a_lease_that_others_cannot_take(claims: Claims) -> None:
    claim = claims.claim(KEY, "one", LEASE)
    assert claim is not None
    assert (claim.attempt, claim.until_ms) == (1, START_MS + LEASE * 1000)
    assert claims.claim(KEY, "two", LEASE) is None
    row = row_of(claims)
    assert (row.state, row.attempts, row.owner) == ("claimed", 1, "one")
    assert (row.claimed_ms, row.until_ms, row.ended_ms) == (START_MS, claim.until_ms, None)
    assert row.is_held(START_MS)
    assert not row.is_held(claim.until_ms)


def test_claims_completed_key_is_done_for_ever(claims: Claims, clock: ManualClock) -> None:
    claim = claims.claim(KEY, "one", LEASE)
    assert claims.complete(claim, {"rows": 7, "run_id": "fmp-1"})
    for owner, wait in (("one", 0), ("two", 0), ("two", 10 * LEASE)):
        clock.sleep(wait)
        assert claims.claim(KEY, owner, LEASE) is None
    assert not claims.fail(claim, "too late")
    assert not claims.release(claim)
    assert not claims.renew(claim)
    assert claims.plan([KEY]) == 0
    row = row_of(claims)
    assert (row.state, row.attempts, row.error) == ("done", 1, None)
    assert row.result == {"rows": 7, "run_id": "fmp-1"}


def test_claims_completed_twice_by_the_same_claim_says_yes_and_keeps_the_first(
    claims: Claims,
) -> None:
    """A client that retries after a lost answer must not take itself for a zombie."""
    claim = claims.claim(KEY, "one", LEASE)
    assert claims.complete(claim, {"rows": 1})
    assert claims.complete(claim, {"rows": 2})
    assert row_of(claims).result == {"rows": 1}


def test_claims_lease_that_ran_out_is_taken_over_and_the_zombie_is_refused(
    claims: Claims, clock: ManualClock
) -> None:
    zombie = claims.claim(KEY, "one", LEASE)
    clock.sleep(LEASE - 0.001)
    assert claims.claim(KEY, "two", LEASE) is None
    clock.sleep(0.001)
    heir = claims.claim(KEY, "two", LEASE)
    assert heir is not None
    assert heir.attempt == 2
    for refused in (
        claims.renew(zombie),
        claims.complete(zombie, {"rows": 1}),
        claims.fail(zombie, "x"),
        claims.release(zombie),
    ):
        assert not refused
    assert claims.complete(heir, {"rows": 2})
    assert not claims.complete(zombie, {"rows": 1})
    assert row_of(claims).result == {"rows": 2}


def test_claims_lease_that_ran_out_and_nobody_took_can_still_be_used(
    claims: Claims, clock: ManualClock
) -> None:
    claim = claims.claim(KEY, "one", LEASE)
    clock.sleep(2 * LEASE)
    assert claims.renew(claim)
    assert claims.claim(KEY, "two", LEASE) is None
    assert claims.complete(claim, {})


def test_claims_renewed_lease_runs_from_the_renewal(claims: Claims, clock: ManualClock) -> None:
    claim = claims.claim(KEY, "one", LEASE)
    for _ in range(3):
        clock.sleep(LEASE * 0.9)
        assert claims.renew(claim)
    assert row_of(claims).until_ms == START_MS + int(LEASE * 3.7 * 1000)
    assert claims.claim(KEY, "two", LEASE) is None


def test_claims_same_owner_takes_its_own_key_again_at_once(claims: Claims) -> None:
    before = claims.claim(KEY, "run-1", LEASE)
    again = claims.claim(KEY, "run-1", LEASE)
    assert again is not None
    assert again.attempt == 2
    assert not claims.complete(before, {})
    assert claims.complete(again, {})


def test_claims_failed_key_keeps_its_error_until_somebody_claims_it(claims: Claims) -> None:
    claim = claims.claim(KEY, "one", LEASE)
    assert claims.fail(claim, "HTTP 402: no plan for this symbol")
    row = row_of(claims)
    assert (row.state, row.error) == ("failed", "HTTP 402: no plan for this symbol")
    assert claims.claim(KEY, "two", LEASE).attempt == 2
    row = row_of(claims)
    assert (row.state, row.error, row.ended_ms) == ("claimed", None, None)


def test_claims_released_key_is_free_at_once_and_keeps_its_attempts(claims: Claims) -> None:
    claim = claims.claim(KEY, "one", LEASE)
    assert claims.release(claim)
    assert (row_of(claims).state, row_of(claims).attempts) == ("planned", 1)
    assert claims.claim(KEY, "two", LEASE).attempt == 2


def test_claims_planned_keys_are_new_once_and_change_nothing_that_began(claims: Claims) -> None:
    keys = [f"fmp/prices_daily/v1/2026-11-{day:02d}" for day in range(1, 31)]
    claims.claim(keys[0], "one", LEASE)
    assert claims.plan(keys[:10]) == 9
    assert claims.plan(keys) == 20
    assert claims.plan(keys) == 0
    assert claims.plan([]) == 0
    states = Counter(row.state for row in claims.read("fmp/"))
    assert states == {"planned": 29, "claimed": 1}
    assert row_of(claims, keys[5]) == ClaimRow(keys[5])


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["a/x/1", "a/x/10", "a/x/2", "a/xy/1", "ab/x/1", "a%/x/1", "A/x/1"]),
        ("a/", ["a/x/1", "a/x/10", "a/x/2", "a/xy/1"]),
        ("a/x/1", ["a/x/1", "a/x/10"]),
        ("a", ["a/x/1", "a/x/10", "a/x/2", "a/xy/1", "ab/x/1", "a%/x/1"]),
        ("a%/", ["a%/x/1"]),
        ("z/", []),
    ],
)
def test_claims_read_gives_what_begins_so_in_key_order(
    claims: Claims, prefix: str, expected: list[str]
) -> None:
    claims.plan(["a/x/2", "a/x/10", "a/x/1", "a/xy/1", "ab/x/1", "a%/x/1", "A/x/1"])
    assert [row.key for row in claims.read(prefix)] == sorted(expected)


def test_claims_of_more_than_a_page_are_all_read(claims: Claims) -> None:
    """DynamoDB answers at most 1 MB at once."""
    for number in range(60):
        claim = claims.claim(f"big/{number:04d}", "one", LEASE)
        claims.complete(claim, {"note": "x" * 40_000})
    assert len(claims.read("big/")) == len(claims.read("")) == 60


def test_claims_keep_the_beginning_of_a_long_error(claims: Claims) -> None:
    claim = claims.claim(KEY, "one", LEASE)
    assert claims.fail(claim, "begin" + "x" * 10 * ERROR_CHARS)
    error = row_of(claims).error or ""
    assert len(error) == ERROR_CHARS
    assert error.startswith("begin")


def test_claims_keep_text_and_numbers_as_they_are(claims: Claims) -> None:
    result = {"rows": 2**53 + 1, "note": "Zürich “quoted” \n %", "empty": ""}
    key = "files/Börse/v1/2026-11-24"
    claim = claims.claim(key, "host:1/ü", LEASE)
    assert claims.complete(claim, result)
    row = row_of(claims, key)
    assert (dict(row.result), row.owner) == (result, "host:1/ü")


def test_claims_are_seen_by_another_process_at_once(open_claims: Opener) -> None:
    one, two = open_claims(), open_claims()
    claim = one.claim(KEY, "one", LEASE)
    assert two.claim(KEY, "two", LEASE) is None
    assert two.complete(claim, {"rows": 1})
    assert row_of(one).state == "done"


# Not moto: it looks at the condition and writes without a lock, so two threads can both win.
@pytest.mark.parametrize("open_claims", ["sqlite", "roto"], indirect=True)
def test_claims_raced_for_by_eight_have_one_winner_a_key(open_claims: Opener) -> None:
    rivals = [open_claims() for _ in range(8)]
    keys = [f"race/{number:03d}" for number in range(20)]
    gate = threading.Barrier(8)

    def race(number: int) -> list[str]:
        gate.wait(30)
        return [key for key in keys if rivals[number].claim(key, f"owner-{number}", LEASE)]

    with ThreadPoolExecutor(8) as pool:
        won = Counter(itertools.chain.from_iterable(pool.map(race, range(8))))
    assert won == dict.fromkeys(keys, 1)
    assert {row.attempts for row in rivals[0].read("race/")} == {1}


def test_claims_wrong_attempt_is_refused_by_every_verb(claims: Claims) -> None:
    claim = claims.claim(KEY, "one", LEASE)
    for wrong in (replace(claim, attempt=0), replace(claim, attempt=2), replace(claim, key="no/1")):
        assert not claims.renew(wrong)
        assert not claims.complete(wrong, {})
        assert not claims.fail(wrong, "x")
        assert not claims.release(wrong)
    assert [row.key for row in claims.read("")] == [KEY], "a refused verb leaves no row behind"


@pytest.mark.slow
def test_claims_of_a_year_of_empty_days_cost_little(claims: Claims, clock: ManualClock) -> None:
    """What the engine and its ledger add to each day; with Prefect tasks it was 12.3 s."""
    chunks = plan_days("fmp", "prices_daily", date(2024, 1, 1), date(2024, 12, 30), clock=clock)
    wall, cpu = time.perf_counter(), time.process_time()
    report = run_backfill(
        claims,
        chunks,
        lambda _: None,
        lambda batch: [{"rows": 0} for _ in batch],
        owner="one",
        parallel_days=8,
        clock=clock,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"\n{type(claims).__name__}: {len(chunks)} empty days, {wall:.2f} s, {cpu:.2f} CPU-s")
    assert report.is_complete
    assert cpu < 12


CREATOR = """
import sys
from pathlib import Path
from batch.backfill.claims import SqliteClaims
claims = SqliteClaims(Path(sys.argv[1]))
print(sum(claims.claim(f"k/{n}", sys.argv[2], 60) is not None for n in range(200)))
"""


def test_sqlite_claims_file_made_by_four_processes_at_once_is_one_ledger(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "claims.db"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, str(path), f"owner-{n}"], stdout=subprocess.PIPE
        )
        for n in range(4)
    ]
    counts = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(counts) == 200
    with SqliteClaims(path) as claims:
        assert {row.attempts for row in claims.read("")} == {1}


def test_sqlite_claims_in_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    path = tmp_path / "claims.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(FatalError, match=r"claims\.db.*not a database.*Move it away"):
        SqliteClaims(path)


def test_sqlite_claims_below_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot create"):
        SqliteClaims(tmp_path / "file" / "claims.db")


def test_sqlite_claims_held_by_another_for_too_long_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch.backfill.claims.BUSY_SECONDS", 0.1)
    with SqliteClaims(tmp_path / "claims.db") as one, SqliteClaims(tmp_path / "claims.db") as two:
        one._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="another process"):
            two.claim(KEY, "two", LEASE)
        with pytest.raises(StoreUnavailableError, match="another process"):
            two.plan([KEY])
        one._connection.execute("ROLLBACK")
        assert two.claim(KEY, "two", LEASE) is not None


@pytest.mark.usefixtures("moto")
def test_dynamo_claims_without_their_table_says_so() -> None:
    with pytest.raises(ConfigError, match="nobody-made-this: the table does not exist"):
        DynamoClaims("nobody-made-this").claim(KEY, "one", LEASE)
    with pytest.raises(ConfigError, match="does not exist"):
        DynamoClaims("nobody-made-this").read("fmp/")


def test_dynamo_claims_table_is_made_once(moto: None) -> None:
    claims = DynamoClaims("claims-twice")
    claims.create_table()
    claims.claim(KEY, "one", LEASE)
    claims.create_table()
    assert len(claims.read("")) == 1


def test_dynamo_claims_without_credentials_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="headrace up"):
        DynamoClaims("claims").read("fmp/")


def test_dynamo_claims_that_nobody_answers_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "do-not-print-me")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", _at_once)
    with pytest.raises(StoreUnavailableError, match=r"UpdateItem on table claims.*no answer") as e:
        DynamoClaims("claims").claim(KEY, "one", LEASE)
    assert "do-not-print-me" not in str(e.value)


def _at_once(*_: Any) -> float:
    return 0.0
