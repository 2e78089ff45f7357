"""A server on 127.0.0.1 that behaves like FMP, and misbehaves on demand."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

KEY = "pl4nted-fmp-key"


@dataclass
class Fault:
    """An answer of its own. `cut`: announce the whole length, send half, hang up. `mute`: hang up
    without a word. `stall_seconds`: wait before the body.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    mute: bool = False
    stall_seconds: float = 0.0


class FmpServer(ThreadingHTTPServer):
    """Answers like FMP; the first requests meet `faults`, one each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/stable"
        self.faults: list[Fault] = []
        self.stories = 0
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.lock = threading.Lock()

    def take_fault(self) -> Fault | None:
        with self.lock:
            return self.faults.pop(0) if self.faults else None


class _Handler(BaseHTTPRequestHandler):
    server: FmpServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/stable/")
        params = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self.server.lock:
            self.server.asked.append((path, params, dict(self.headers.items())))
        fault = self.server.take_fault()
        if fault is None:
            fault = self._answer(path, params)
        if fault.mute:
            self.close_connection = True
            return
        self.send_response(fault.status)
        headers = {"Content-Type": "application/json; charset=utf-8", **fault.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(fault.body)))
        self.end_headers()
        time.sleep(fault.stall_seconds)
        with contextlib.suppress(OSError):  # a client that has read enough hangs up
            self.wfile.write(fault.body[: len(fault.body) // 2] if fault.cut else fault.body)

    def _answer(self, path: str, params: dict[str, str]) -> Fault:
        if self.headers.get("apikey") != KEY:
            return Fault(401, b'{"Error Message":"Invalid API KEY."}')
        for begin, answer in ANSWERS.items():
            if path.startswith(begin):
                items = answer(self.server, path, params)
                body = orjson.dumps(items, option=orjson.OPT_INDENT_2)  # FMP's own white space
                with self.server.lock:
                    self.server.bodies.append(body)
                return Fault(body=body)
        return Fault(404, b"[]")

    def log_message(self, *args: object) -> None:
        """Stay quiet."""


def _days(params: dict[str, str]) -> list[date]:
    """Weekdays of the range, newest first."""
    first, last = (date.fromisoformat(params[name]) for name in ("from", "to"))
    every = [last - timedelta(days=n) for n in range((last - first).days + 1)]
    return [day for day in every if day.weekday() < 5]


def _daily(server: FmpServer, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"symbol": params["symbol"], "date": day.isoformat(), "open": 227.2, "high": 233.13,
         "low": 226.65, "close": 232.8, "volume": 44489128, "change": 5.6,
         "changePercent": 2.46479, "vwap": 230.86}
        for day in _days(params)
    ]  # fmt: skip


def _intraday(server: FmpServer, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"date": f"{day} {clock}", "open": 233.01, "low": 232.72, "high": 233.13,
         "close": 232.79, "volume": 720121}
        for day in _days(params)
        for clock in ("15:59:00", "09:30:00")
    ]  # fmt: skip


def _news(server: FmpServer, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
    size = min(int(params["limit"]), 250)
    first = int(params["page"]) * size
    return [
        {"symbol": params["symbols"].split(",")[0], "publishedDate": f"{params['to']} 10:00:00",
         "publisher": "Wire", "title": f"Story {n}", "image": None, "site": "wire.example",
         "text": "ünicode", "url": f"https://wire.example/{params['to']}/{n}"}
        for n in range(first, min(first + size, server.stories))
    ]  # fmt: skip


def _quotes(server: FmpServer, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"symbol": symbol, "bidSize": 1, "bidPrice": 232.45, "askSize": 3, "askPrice": 232.64,
         "volume": 41647042, "timestamp": 1738715334311}
        for symbol in params["symbols"].split(",")
    ]  # fmt: skip


def _one(server: FmpServer, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
    return [{"symbol": params["symbol"], "price": 232.8, "timestamp": 1738702801}]


ANSWERS: dict[str, Callable[[FmpServer, str, dict[str, str]], list[dict[str, Any]]]] = {
    "historical-price-eod/full": _daily,
    "historical-chart/": _intraday,
    "news/stock": _news,
    "batch-aftermarket-quote": _quotes,
    "quote": _one,
    "profile": _one,
}


@pytest.fixture
def fmp_server() -> Iterator[FmpServer]:
    """A running server."""
    server = FmpServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fault() -> type[Fault]:
    """The class of a misbehaviour."""
    return Fault


@pytest.fixture
def key() -> str:
    """The key that the server accepts, planted to be looked for."""
    return KEY
