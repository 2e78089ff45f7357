"""A page served in this process over states that a test decides, and a browser to look at it.

The states are those of `stream.watch`: a busy platform with everything in it, hostile text
included, and one where nothing was ever started.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from stream.ui.app import build_app
from stream.ui.collector import Collector
from stream.ui.server import listen, url_of
from stream.watch import state as s

NOW_MS = 1_795_990_000_000
HOSTILE = (
    '{"px": "<img src=x onerror=alert(1)>", "s": "</pre><script>document.title=\'owned\'</script>"}'
    "\u202e\u0000\x1b[31m"
)
FEEDS = ("books", "news", "quotes", "trades")
COMMANDS = "headrace replay {0} --from 2026-11-29T10:00:00 --to 2026-11-29T11:00:00"
ARTIFACTS = Path(__file__).parents[2] / ".headrace-artifacts" / "ui"
"""Where screenshots are left for people; CI keeps the folder."""
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass
class Site:
    """A served page; what it shows is `state`, moved to the present with each reading."""

    state: s.WatchState = field(default_factory=lambda: busy_state())  # noqa: PLW0108 - below
    error: Exception | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    readings: int = 0
    url: str = ""

    def change(self, name: str, **changes: Any) -> None:
        """Another state from now on, with one feed changed."""
        feeds = tuple(replace(f, **changes) if f.feed == name else f for f in self.state.feeds)
        self.state = replace(self.state, feeds=feeds)

    def empty(self) -> None:
        """From now on as if nothing had ever been started."""
        self.state = empty_state()

    def read(self) -> dict[str, Any]:
        self.readings += 1
        if self.error:
            raise self.error
        return moved(self.state.to_json(), int(time.time() * 1000) - NOW_MS)

    def history(self, feed: str) -> list[dict[str, Any]]:
        self.state.feed(feed)
        return self.samples


def moved(value: Any, by_ms: int) -> Any:
    """The same state at another time: every `…_ms` that is a moment and not a duration."""
    moments = {"at_ms", "since_ms", "committed_ms", "start_ms", "next_change_ms"}
    if isinstance(value, dict):
        return {
            key: item + by_ms
            if key in moments and isinstance(item, int) and item
            else moved(item, by_ms)
            for key, item in value.items()
        }
    return [moved(item, by_ms) for item in value] if isinstance(value, list) else value


class Served:
    """A site on a port of its own, until `stop`; `start` again uses the same port."""

    def __init__(self, site: Site) -> None:
        self.site, self._port = site, 0
        self.collector: Collector

    def start(self) -> None:
        listener = listen("127.0.0.1", self._port)
        self._port = listener.getsockname()[1]
        self.site.url = url_of(listener)
        self.collector = Collector(self.site.read)
        app = build_app(self.collector, self.site.history, names=["pager.example"])
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", http="h11")
        self._server = uvicorn.Server(config)
        run = self._server.run
        self._thread = threading.Thread(target=run, args=([listener],), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        self.collector.release()
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def served() -> Iterator[Served]:
    """A busy platform's page."""
    found = Served(Site())
    found.start()
    yield found
    found.stop()


@pytest.fixture
def site(served: Served) -> Site:
    return served.site


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium, or set CHROMIUM")
    # Half a second that the fast tests need not pay.
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as player:
        running = player.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Any]:
    """Open an address in a fresh profile; an error in the page or its console fails."""
    contexts, faults = [], []

    def open_(url: str, **options: Any) -> Any:
        settings = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light", **options}
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **settings)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(30_000)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda m: _note(faults, m))
        tab.goto(url)
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert not faults, faults


def _note(faults: list[str], message: Any) -> None:
    """A console error; but that a connection broke is what some tests are about."""
    if message.type == "error" and "net::ERR_" not in message.text:
        faults.append(message.text)


@pytest.fixture
def keep_picture(request: pytest.FixtureRequest) -> Any:
    """Leave a screenshot of a tab for people to look at."""

    def keep(tab: Any, name: str) -> Path:
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        tab.evaluate("scrollTo(0, 0)")  # or the bar that sticks is drawn in the middle
        tab.screenshot(path=path, full_page=True, animations="disabled")
        return path

    return keep


def busy_state() -> s.WatchState:
    """Four feeds: one lags, one is idle, two are live; rejects, a gap, five months of days."""
    processes = (
        s.Process("aws", "running", 4101, NOW_MS - 7_200_000, 0, None, ""),
        *(s.Process(n, "running", 4200 + i, NOW_MS - 7_190_000, i % 2, None, "") for i, n in
          enumerate(FEEDS)),
        s.Process("ui", "running", 4300, NOW_MS - 7_190_000, 0, None, ""),
    )  # fmt: skip
    runs = (
        s.PrefectRun("gold", "amber-heron", "Completed", NOW_MS - 240_000, 31_000,
                     "http://127.0.0.1:4200/runs/flow-run/1"),
        s.PrefectRun("backfill", "wry-otter", "Failed", NOW_MS - 3_900_000, 4_200,
                     "javascript:alert(1)"),
    )  # fmt: skip
    return s.WatchState(
        NOW_MS,
        s.Platform("running", "roto", "http://127.0.0.1:49029", "", processes),
        tuple(_feed(name) for name in FEEDS),
        s.Prefect("up", "http://127.0.0.1:4200", runs),
        (
            s.Problem("books is lagging", "books", "Its shards are 4 min behind."),
            s.Problem("Gold cannot be read", "Gold", "Build it: `headrace gold`."),
        ),
    )


def empty_state() -> s.WatchState:
    """Nothing was ever started."""
    feeds = tuple(_never(name) for name in FEEDS)
    problem = s.Problem("the platform is not running", "a home", "Start it: `headrace up`.")
    return s.WatchState(NOW_MS, s.Platform("stopped"), feeds, problems=(problem,))


def _feed(name: str) -> s.Feed:
    condition, why, behind = {
        "books": ("lagging", "its slowest shard is 4 min behind, 15 s are allowed", 243_000),
        "news": ("idle", "nothing is due: no story for 3 min", 0),
        "quotes": ("live", "1,204 records/s committed over the last minute", 900),
        "trades": ("live", "171 records/s committed over the last minute", 3_400),
    }[name]
    rate = {"books": 3_480.0, "news": 0.0, "quotes": 1_204.0, "trades": 171.3}[name]
    return s.Feed(
        feed=name,
        doc=f"What {name} are: one row per message, as the venue said it",
        condition_now=condition,
        why=why,
        pulse_age_ms=420,
        pid=4200 + FEEDS.index(name),
        market=s.Market("XNYS", True, NOW_MS + 5_400_000)
        if name == "trades"
        else s.Market("24/7", True, None),
        throughput=s.Throughput(rate, rate * 8, rate * 950, 60_000),
        shards=tuple(_shard(i, behind // (i + 1), rate / 4) for i in range(4)),
        freshness=s.Freshness(
            behind // 2 + 500, behind + 900, behind + 900, 12_000, 15_000, behind < 9_000
        ),
        commits=tuple(
            s.Commit(512 - i, "slices", NOW_MS - i * 10_000 - 4_000, 8, 2_875 - i * 17,
                     15_177 - i * 91, 3 * (i % 2), 65, f"ledger/{name}/{512 - i}.json")
            for i in range(10)
        ),
        rejects=_rejects() if name == "trades" else (),
        gaps=(s.Gap("shardId-000000000003", "retention", "4961", "4988", 17),)
        if name == "books"
        else (),
        days=_days(),
        cost=s.Cost(0.21, 0.105, {"compute": 0.039, "requests": 0.032, "stream": 0.034}),
        tables=s.Tables(512, 24, 310, 18_224_113),
        commands=s.Commands(COMMANDS.format(name), f"headrace redrive {name}",
                            f"headrace prove {name}"),
    )  # fmt: skip


def _shard(number: int, behind_ms: int, rate: float) -> s.Shard:
    state = "tip" if behind_ms < 1_000 else "behind"
    return s.Shard(
        f"shardId-{number:012d}", state, behind_ms, behind_ms, behind_ms // 6, number == 0,
        number == 3, f"4966823190845{number}87210", rate,
    )  # fmt: skip


def _rejects() -> tuple[s.Reject, ...]:
    hostile = s.Sample("trades/s1/49668-49702", 17, "price is <b>text</b>", HOSTILE)
    plain = s.Sample("trades/s1/49668-49702", 3, "found NaN", '{"symbol": "ACME", "price": NaN}')
    return (
        s.Reject("wrong_type", 61, "a value has another JSON type than the shape says", (hostile,)),
        s.Reject("not_a_number", 8, "NaN, Infinity or text where digits are expected", (plain,)),
        s.Reject("unknown_venue", 3, "venue is one of sim, coinbase", (), "personal data"),
    )


def _days() -> tuple[s.Day, ...]:
    today = datetime.fromtimestamp(NOW_MS / 1000, UTC).date()
    found = []
    for back in range(150, -1, -1):
        condition, why = "available", ""
        if back == 0:
            condition, why = "pending", "the day may go on"
        elif back % 37 == 9:
            condition, why = "degraded", "3 sequence gaps of venue sim"
        elif back == 61:
            condition, why = "missing", "no row, and the market was open"
        elif back % 7 == 3 and back > 100:
            condition, why = "unknown", "Gold has not judged it yet"
        rows = 0 if condition == "missing" else 1_204_551 - back * 13
        found.append(s.Day((today - timedelta(days=back)).isoformat(), condition, rows, why))
    return tuple(found)


def _never(name: str) -> s.Feed:
    return s.Feed(
        name, f"What {name} are", "never started", "`headrace up` starts it", None, None,
        s.Market("24/7", True, None), s.Throughput(), (),
        s.Freshness(None, None, None, None, 15_000, False), (), (), (), (), s.Cost(), s.Tables(),
        s.Commands(COMMANDS.format(name), f"headrace redrive {name}", f"headrace prove {name}"),
    )  # fmt: skip
