"""Measure the API: latency and requests per second of hot queries, many clients at once.

    python tests/benchmarks/serving.py [--clients 100] [--seconds 10] [--rows 100000] [--json]

Makes a lake of trades in a temporary folder, starts `headrace api` on it, and asks over keep-alive
connections of one client process, raw sockets, no think time. Three loads: one page that every
client repeats (kept answers), the same with the page's ETag (304), and pages that nobody asked for
before (each runs SQL). Server and clients share this machine's processors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from stream.settings import child_environment, load_settings

ROOT = Path(__file__).parents[2]
Ask = Callable[[], tuple[str, str]]
"""A path with its query, and further headers."""


@dataclass(frozen=True)
class Figures:
    """Of one load."""

    load: str
    clients: int
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int]


def make_lake(home: Path, rows: int) -> None:
    """Trades of ten symbols in one day, by the road itself without engine."""
    import importlib.util

    path = ROOT / "tests" / "unit" / "conftest.py"
    spec = importlib.util.spec_from_file_location("small_lake_of_unit_tests", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    lake = module.open_small_lake(home)
    for batch in range(max(1, rows // 10_000)):
        at = lake.arrival_ns + 1_000_000_000
        payloads = [
            module.trade(batch * 10_000 + i, symbol=f"SYM{i % 10}", at_ns=at + i)
            for i in range(min(rows, 10_000))
        ]
        lake.land(lake.slice(payloads))
    lake.road.close()


@contextmanager
def running_api(home: Path) -> Iterator[tuple[str, str]]:
    """URL and token of a server of its own."""
    settings = load_settings(
        home=home, lake=f"file://{home}/lake", api_port=0, api_requests_per_second=1_000_000,
        log_level="WARNING",
    )  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "stream.cli", "api", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **child_environment(settings)},
    )
    try:
        said = "".join(iter(server.stdout.readline, "}\n")) + "}"
        found = json.loads(said)
        yield found["url"], Path(found["token"]).read_text().strip()
    finally:
        server.terminate()
        server.wait(20)


async def ask(
    url: str, token: str, asks: Ask, ends_at: float, times: list[float], statuses: Counter[str]
) -> None:
    """One client: ask, read, ask again."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=10_000_000)
    while (began := time.perf_counter()) < ends_at:
        path, headers = asks()
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {token}\r\n"
            f"{headers}\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if "content-length: " in head:
            await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        times.append(time.perf_counter() - began)
        statuses[head.split(" ", 2)[1]] += 1
    writer.close()


async def load(name: str, url: str, token: str, clients: int, seconds: float, asks: Ask) -> Figures:
    """All clients at once, for so long."""
    times: list[float] = []
    statuses: Counter[str] = Counter()
    began = time.perf_counter()
    ends_at = began + seconds
    await asyncio.gather(*(ask(url, token, asks, ends_at, times, statuses) for _ in range(clients)))
    took = time.perf_counter() - began
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return Figures(
        name, clients, len(times), round(len(times) / took, 1), round(float(p50), 1),
        round(float(p99), 1), dict(statuses),
    )  # fmt: skip


async def first_tag(url: str, token: str, path: str) -> str:
    """The ETag of a page."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=10_000_000)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {token}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    assert " 200 " in head.splitlines()[0], head
    return head.lower().split("etag: ")[1].split("\r\n")[0]


async def measure(url: str, token: str, clients: int, seconds: float) -> list[Figures]:
    """The three loads, one after the other."""
    hot = "/v1/trades?symbol=SYM1&day=2025-11-24&limit=100"
    tag = await first_tag(url, token, hot)
    numbers = count()

    def new_page() -> tuple[str, str]:
        number = next(numbers)
        start = f"2025-11-24T15:00:00.{number:09}Z"
        path = f"/v1/trades?symbol=SYM{number % 10}&limit=100&from={start}&to=2025-11-25"
        return path, ""

    loads: list[tuple[str, Ask]] = [
        ("same page", lambda: (hot, "")),
        ("same page, ETag", lambda: (hot, f"If-None-Match: {tag}\r\n")),
        ("new pages", new_page),
    ]
    return [await load(name, url, token, clients, seconds, asks) for name, asks in loads]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make_lake(home, given.rows)
        with running_api(home) as (url, token):
            found = asyncio.run(measure(url, token, given.clients, given.seconds))
    if given.json:
        print(json.dumps([asdict(figures) for figures in found]))
    else:
        for f in found:
            print(
                f"{f.load:>16}: {f.requests_per_s:8.1f} requests/s, p50 {f.p50_ms:7.1f} ms, "
                f"p99 {f.p99_ms:7.1f} ms, {f.clients} clients, {f.statuses}"
            )
    return 0 if all(set(f.statuses) <= {"200", "304"} for f in found) else 1


if __name__ == "__main__":
    sys.exit(main())
