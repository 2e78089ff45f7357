"""The API as a process: schemathesis, 100,000 rows while others write, and kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from batch.maintain.compact import compact_table
from batch.maintain.expire import expire_snapshots
from stream.feeds import load_feed
from stream.settings import Settings, child_environment, load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
DAY = "2025-11-24"
ROWS = 100_000


@dataclass
class Served:
    """A running `headrace api`."""

    process: subprocess.Popen[str]
    url: str
    token: str

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    known = load_settings(
        home=settings.home, lake=settings.lake, api_port=0, api_requests_per_second=1_000_000
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "stream.cli", "api", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **child_environment(known)},
    )
    assert process.stdout is not None
    try:
        said = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        yield Served(process, said["url"], Path(said["token"]).read_text().strip())
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.stdout.close()


def test_every_answer_to_whatever_is_sent_is_documented(small_lake):
    """Not positive_data_acceptance: a cursor or a range that fits its pattern may still be wrong.
    Lag asks a stream, which a lake in a folder has none of: its 503 is looked at apart.
    """
    small_lake.land_trades(500)
    for feed in ("quotes", "news"):
        small_lake.lake.table(load_feed(feed))
    with serving(small_lake.settings) as served:
        answer = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "run",
                f"{served.url}/openapi.json", "-H", f"Authorization: Bearer {served.token}",
                "--exclude-checks", "positive_data_acceptance", "--exclude-path", "/v1/lag",
                "--phases", "coverage,fuzzing", "--max-examples", "5", "--workers", "2",
                "--generation-deterministic", "--no-color",
            ],
            check=False, capture_output=True, text=True, timeout=240,
            cwd=small_lake.settings.home,
        )  # fmt: skip
        print(answer.stdout[-3_000:])
        assert answer.returncode == 0, answer.stdout[-6_000:]
        with served.client() as client:
            lag = client.get("/v1/lag")
            assert (lag.status_code, lag.headers["content-type"]) == (
                503,
                "application/problem+json",
            )


def test_each_of_100k_rows_comes_once_while_others_commit_and_compact(
    small_lake: Any, trade: Callable[..., bytes]
) -> None:
    batch = 10_000
    for number in range(ROWS // batch):
        at = small_lake.arrival_ns + 1_000_000_000
        small_lake.land(
            small_lake.slice([trade(number * batch + i, at_ns=at + i // 3) for i in range(batch)])
        )
    stop, failed = threading.Event(), []
    commits = [0]

    def disturb() -> None:
        """Commit more trades of the same day, compact the table, expire what is not pinned."""
        number = ROWS
        while not stop.is_set():
            at = small_lake.arrival_ns + 1_000_000_000
            payloads = [trade(number + i, at_ns=at + i) for i in range(200)]
            small_lake.land(small_lake.slice(payloads))
            number, commits[0] = number + 200, commits[0] + 1
            compact_table(small_lake.lake, "trades", region="us-east-1", apply=True)
            expire_snapshots(small_lake.lake, "trades", apply=True)

    def run() -> None:
        try:
            disturb()
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=run, daemon=True)
    with serving(small_lake.settings) as served, served.client() as client:
        query = {"symbol": "ACME", "day": DAY, "limit": 2_500}
        seen: list[str] = []
        snapshots = set()
        cursor: str | None = None
        while True:
            given = {**query, **({"cursor": cursor} if cursor else {})}
            answer = client.get("/v1/trades", params=given)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            seen += [row["trade_id"] for row in page["data"]]
            snapshots.add(page["as_of"]["snapshot"])
            if not thread.is_alive() and not failed and cursor is None:
                thread.start()
            cursor = page["next_cursor"]
            if cursor is None:
                break
        stop.set()
        thread.join(60)
    assert failed == []
    assert commits[0] > 0
    print(f"{len(seen)} rows, {commits[0]} commits and compactions meanwhile")
    assert len(snapshots) == 1
    assert len(seen) == len(set(seen)) == ROWS
    assert set(seen) == {str(i) for i in range(ROWS)}


def test_snapshot_that_was_expired_is_said_and_never_answered_with_other_rows(small_lake):
    small_lake.land_trades(20)
    with serving(small_lake.settings) as served, served.client() as client:
        query = {"symbol": "ACME", "day": DAY, "limit": 5}
        cursor = client.get("/v1/trades", params=query).json()["next_cursor"]
        small_lake.land_trades(5)
        expire_snapshots(small_lake.lake, "trades", keep_hours=0, keep_last=1, apply=True)
        statuses = set()
        for _ in range(100):
            answer = client.get("/v1/trades", params={**query, "cursor": cursor})
            statuses.add(answer.status_code)
            if answer.status_code == 410:
                break
            threading.Event().wait(0.1)
        assert 410 in statuses
        assert answer.json()["type"] == "urn:headrace:problem:snapshot-gone"


def test_server_killed_in_the_middle_of_requests_harms_nothing(small_lake):
    small_lake.land_trades(2_000)
    before = small_lake.lake.catalog.open("trades").snapshot_id
    query = {"symbol": "ACME", "day": DAY, "limit": 100}
    with serving(small_lake.settings) as served:
        with served.client() as client:
            cursor = client.get("/v1/trades", params=query).json()["next_cursor"]

        def hammer() -> None:
            with served.client() as client:
                for start in range(10_000):
                    try:
                        client.get("/v1/trades", params={**query, "limit": 1 + start % 2_000})
                    except httpx.HTTPError:
                        return

        threads = [threading.Thread(target=hammer, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        threading.Event().wait(1.0)
        served.process.kill()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    assert small_lake.lake.catalog.open("trades").snapshot_id == before
    small_lake.land_trades(5)
    with serving(small_lake.settings) as again, again.client() as client:
        page = client.get("/v1/trades", params={**query, "cursor": cursor})  # its key was kept
        assert page.status_code == 200
        assert len(page.json()["data"]) == 100
        assert again.process.poll() is None
    assert again.process.returncode == 0  # SIGTERM ends it in order
