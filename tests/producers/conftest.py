"""Servers on 127.0.0.1 that stand in for venues and news sources: they drop, stall and lie."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

ACKS: dict[str, Callable[[Any], bytes]] = {
    "coinbase": lambda ask: orjson.dumps(
        {
            "type": "subscriptions",
            "channels": [
                {"name": name, "product_ids": ask["product_ids"]} for name in ask["channels"]
            ],
        }
    ),
    "kraken": lambda ask: orjson.dumps(
        {"method": "subscribe", "success": True, "result": ask["params"]}
    ),
    "kraken1": lambda ask: orjson.dumps(
        {"event": "subscriptionStatus", "status": "subscribed", "pair": ask["pair"][0]}
    ),
    "binance": lambda ask: orjson.dumps({"result": None, "id": ask["id"]}),
}
HEARTBEATS = {
    "coinbase": b'{"type":"heartbeat","sequence":1,"last_trade_id":1,"product_id":"BTC-USD"}',
    "kraken": b'{"channel":"heartbeat"}',
    "kraken1": b'{"event":"heartbeat"}',
    "binance": b'{"result":null,"id":9}',
}


@dataclass
class VenueServer:
    """Speaks one venue's protocol; connection n follows script n, the last script repeats.

    A script is a list of steps: bytes (sent as a text frame), "heartbeat", "drop" (cut the TCP
    connection), "close" (a proper close), "stall" (say nothing more), "no ack" (first step only).
    """

    venue: str
    scripts: list[list[bytes | str]]
    asked: list[Any] = field(default_factory=list)
    connections: int = 0

    async def handle(self, connection: ServerConnection) -> None:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        ask = orjson.loads(await connection.recv())
        self.asked.append(ask)
        if "no ack" not in script[:1]:
            await connection.send(ACKS[self.venue](ask), text=True)
        for step in script:
            if isinstance(step, bytes):
                await connection.send(step, text=True)
            elif step == "heartbeat":
                await connection.send(HEARTBEATS[self.venue], text=True)
            elif step == "drop":
                connection.transport.abort()
                return
            elif step == "close":
                await connection.close()
                return
        await connection.wait_closed()  # "stall" and the end of a script

    @asynccontextmanager
    async def running(self):
        """Yields the server's address."""
        async with serve(self.handle, "127.0.0.1", 0, close_timeout=0.1) as server:
            port = server.sockets[0].getsockname()[1]
            yield f"ws://127.0.0.1:{port}"


@pytest.fixture
def venue_server() -> type[VenueServer]:
    """The server class: a test gives it venue and scripts."""
    return VenueServer


@dataclass
class Reply:
    """One HTTP answer. `cut`: announce the whole length, send half, hang up."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


class NewsServer(ThreadingHTTPServer):
    """Answers request n with reply n (the last one repeats) and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/news"


class _Handler(BaseHTTPRequestHandler):
    server: NewsServer

    def do_GET(self) -> None:
        at = min(len(self.server.requests), len(self.server.replies) - 1)
        self.server.requests.append((self.path, dict(self.headers.items())))
        reply = self.server.replies[at]
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status != 304:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)

    def log_message(self, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def news_server() -> Iterator[NewsServer]:
    """A running HTTP server; the test fills `replies`."""
    server = NewsServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def reply() -> type[Reply]:
    """The reply class."""
    return Reply
