"""The API over HTTP on this machine: each request becomes an event, threads answer it.

uvicorn reads requests and writes answers on one event loop; whatever asks the lake runs in a pool
of threads, so that a slow query holds up nobody else. More requests than can wait are refused.
Not here: TLS. Beyond this machine the API belongs behind something that does it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import uvicorn

from stream.errors import ConfigError
from stream.serving.app import Api, Event, refuse
from stream.serving.problem import Problem

THREADS = 8
MAX_WAITING = 256
"""Requests that are answered or wait for a thread; those beyond are told to come back."""
MAX_HEAD_BYTES = 16_384
"""Of the request line and all headers."""
CONNECTIONS = 1_024

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handle = Callable[[Event], dict[str, Any]]


class Server:
    """An ASGI application around the function that Lambda would call."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="api")
        self._waiting = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            response = await self._answer(scope, receive)
            await _write(send, response, is_sized=scope["method"] != "HEAD")

    async def _answer(self, scope: Message, receive: Receive) -> dict[str, Any]:
        event = to_event(scope, has_body=await _has_body(receive))
        if self._waiting >= MAX_WAITING:
            busy = "The API has as much to do as it can. Ask again."
            return refuse(Problem(503, "busy", busy, {"Retry-After": "1"}))
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._handle, event)
        finally:
            self._waiting -= 1

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                self._pool.shutdown(wait=False, cancel_futures=True)
                return


def to_event(scope: Message, *, has_body: bool) -> Event:
    """A request as API Gateway hands it to Lambda (payload format 2.0)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": scope["path"],
        "rawQueryString": scope["query_string"].decode("latin-1"),
        "headers": headers,
        "requestContext": {
            "http": {"method": scope["method"], "path": scope["path"]},
            "stage": "$default",
        },
        "body": "body" if has_body else None,
        "isBase64Encoded": False,
    }


def serve(api: Api, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `announce` is told the address when it is open.

    Raises: ConfigError if the address is taken.
    """
    with _listen(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listener.getsockname()[1]}")
        make_server(api).run(sockets=[listener])


def make_server(api: Api) -> uvicorn.Server:
    """A server that is not started yet; it is given its sockets."""
    config = uvicorn.Config(
        Server(api.handle),
        http="h11",  # the one whose heads are bounded
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ws="none",
        access_log=False,  # it would show cursors
        log_config=None,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return _Uvicorn(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}. Choose another with --port (0: any "
            "free one)."
        ) from error


class _Uvicorn(uvicorn.Server):
    """Ends with 0 at SIGTERM: uvicorn would raise the signal again, as if nobody had heard it."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        with super().capture_signals():
            try:
                yield
            finally:
                heard = self._captured_signals
                heard[:] = [number for number in heard if number != signal.SIGTERM]


async def _has_body(receive: Receive) -> bool:
    """Whether the request has a body, of which no more than a part is looked at."""
    message = await receive()
    return bool(message.get("body"))


async def _write(send: Send, response: dict[str, Any], *, is_sized: bool) -> None:
    body = response.get("body") or ""
    data = base64.b64decode(body) if response.get("isBase64Encoded") else body.encode()
    headers = [
        (name.lower().encode("latin-1"), str(value).encode("latin-1"))
        for name, value in response["headers"].items()
    ]
    status = response["statusCode"]
    if is_sized and status != 304:
        headers.append((b"content-length", str(len(data)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
