"""A proxy in front of an emulator that fails as networks and services do, by a seeded plan.

It reads a whole request, decides by service, operation and how many of them came before, and then
passes it on or spoils it: refuses it, forwards it and loses the answer, sends half of the answer,
sends it late, or breaks the connection before anything is forwarded. One thread, one event loop,
a plain HTTP/1.1 subset: what boto3, obstore and pyarrow send over loopback.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

NO_BODY = (204, 304)
KINESIS_FAULTS = {
    500: ("InternalFailure", 500),
    503: ("ServiceUnavailable", 503),
    429: ("ProvisionedThroughputExceededException", 400),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request.

    kind: `refuse` (answer `status`, upstream never sees it), `lose` (done upstream, the answer is
    lost with a reset), `half` (done, half of the answer arrives), `slow` (done, `seconds` late),
    `reset` (broken before it is forwarded). `status` 429 means throttled in the service's words.
    """

    kind: str
    status: int = 503
    seconds: float = 1.0

    def __str__(self) -> str:
        return f"{self.kind} {self.status}" if self.kind == "refuse" else self.kind


@dataclass(slots=True)
class Plan:
    """Which requests fail: `share` of those of an operation, one of `faults` each, drawn by the
    seed and the operation's count alone. `first` says what happens to its first ones.
    """

    seed: int
    faults: Mapping[str, tuple[Fault, ...]]
    share: float = 0.1
    first: Mapping[str, tuple[Fault | None, ...]] = field(default_factory=dict)

    def choose(self, operation: str, number: int) -> Fault | None:
        """The fault of the n-th request (from 0) of an operation; None: it passes."""
        certain = self.first.get(operation, ())
        if number < len(certain):
            return certain[number]
        kinds = self.faults.get(operation, self.faults.get(operation.partition(":")[0], ()))
        luck = random.Random(f"{self.seed}/{operation}/{number}")
        return luck.choice(kinds) if kinds and luck.random() < self.share else None


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer: its first line, its headers in lower case, its whole body."""

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.line.split()[1])

    def to_bytes(self, *, has_body: bool = True) -> bytes:
        headers = {n: v for n, v in self.headers.items() if n not in _HOP}
        if has_body:
            headers["content-length"] = str(len(self.body))
        lines = [self.line, *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


class FaultProxy:
    """Runs in a thread until it is closed. `plan` and `outage` may be changed at any time."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self.plan: Plan | None = None
        self.outage: Mapping[str, Fault] = {}
        """Service ("s3", "kinesis") -> what every one of its requests gets, whatever the plan."""
        self.fired: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        )
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Drop every connection and end the thread."""

        async def end() -> None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _read(reader, writer)) is not None:
                if not await self._answer(request, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or we close
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, request: Message, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        operation = name_operation(request)
        service = operation.partition(":")[0]
        number = self._seen[operation]
        self._seen[operation] += 1
        fault = self.outage.get(service)
        if fault is None and self.plan is not None:
            fault = self.plan.choose(operation, number)
        if fault is None:
            self.passed[operation] += 1
        else:
            self.fired[f"{operation} {fault}"] += 1
            if fault.kind == "reset":
                return _reset(writer)
            if fault.kind == "refuse":
                writer.write(_refusal(operation, fault).to_bytes())
                await writer.drain()
                return True
        answer = await self._ask(request)
        if answer is None or (fault is not None and fault.kind == "lose"):
            return _reset(writer)
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        is_bodiless = request.line.startswith("HEAD ") or answer.status in NO_BODY
        data = answer.to_bytes(has_body=not is_bodiless)
        if fault is not None and fault.kind == "half":
            writer.write(data[: len(data) - max(len(answer.body) // 2, 1)])
            await writer.drain()
            return _reset(writer)
        writer.write(data)
        await writer.drain()
        return True

    async def _ask(self, request: Message) -> Message | None:
        """The upstream's answer over a connection of its own; None if it gives none."""
        try:
            reader, writer = await asyncio.open_connection(*self._upstream, limit=1 << 20)
        except OSError:
            return None
        try:
            writer.write(request.to_bytes(has_body=bool(request.body) or _has_length(request)))
            await writer.drain()
            return await _read(reader, None, is_head=request.line.startswith("HEAD "))
        except (OSError, asyncio.IncompleteReadError):
            return None
        finally:
            writer.close()


def name_operation(request: Message) -> str:
    """E.g. `kinesis:GetRecords`, `s3:PUT`, `s3:LIST`."""
    if target := request.headers.get("x-amz-target", ""):
        return f"kinesis:{target.rpartition('.')[2]}"
    method, path = request.line.split()[:2]
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    is_listing = method == "GET" and ("list-type" in query or "prefix" in query)
    return "s3:LIST" if is_listing else f"s3:{method}"


def _has_length(message: Message) -> bool:
    return "content-length" in message.headers


def _reset(writer: asyncio.StreamWriter) -> bool:
    """Close so that the peer sees a reset, not an end."""
    with suppress(OSError):
        found = writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    return False


def _refusal(operation: str, fault: Fault) -> Message:
    """An error as the service words it."""
    if operation.startswith("kinesis:"):
        code, status = KINESIS_FAULTS[fault.status]
        body = f'{{"__type":"{code}","message":"planned by the proxy"}}'.encode()
        kind = "application/x-amz-json-1.1"
    else:
        throttled = fault.status in {429, 503}
        code, status = ("SlowDown", 503) if throttled else ("InternalError", fault.status)
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f"<Error><Code>{code}</Code><Message>planned by the proxy</Message></Error>"
        ).encode()
        kind = "application/xml"
    return Message(f"HTTP/1.1 {status} Planned", {"content-type": kind}, body)


async def _read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, *, is_head: bool = False
) -> Message | None:
    """The next message; None at the end of the connection. `writer`: tells a client that waits
    for leave to send its body to go on.
    """
    line = (await reader.readline()).decode("latin-1").strip()
    if not line:
        return None
    headers: dict[str, str] = {}
    while text := (await reader.readline()).decode("latin-1").strip():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    if writer is not None and "expect" in headers:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if is_head:
        return Message(line, headers, b"")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Message(line, headers, await _read_chunks(reader))
    return Message(line, headers, await reader.readexactly(int(headers.get("content-length", 0))))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # trailers
    return b"".join(parts)
