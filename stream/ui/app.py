"""What is answered: the page, its state now, its history, and a stream of states.

    GET /                   the page
    GET /static/…           its files
    GET /api/state          the newest state (`stream.watch.state`), as JSON
    GET /api/history        ?feed=NAME: samples of lag, freshness and throughput, oldest first
    GET /events             server-sent events: `state` once a second, to any number of pages
    GET /healthz            200 while states are read, 503 if none was for half a minute

Not here: who may ask (`guard`), who reads (`collector`), listening (`server`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from stream.ui.collector import BEAT_SECONDS, Collector, Reading
from stream.ui.guard import Guard

PAGE = Path(__file__).with_name("page")
MAX_PAGES = 100
FIRST_STATE_SECONDS = 15.0
HEALTHY_SECONDS = 30.0
RETRY_MS = 1_000
"""How soon a browser asks again when its stream of states broke."""

ReadHistory = Callable[[str], Sequence[Any]]


def build_app(
    collector: Collector, read_history: ReadHistory, names: Collection[str] = ()
) -> Starlette:
    """The application; it starts and stops the collector.

    Args: read_history: samples of a feed, oldest first; KeyError for no such feed. names: hosts it
    answers to, beside this machine's own.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        collector.start()
        try:
            yield
        finally:
            await asyncio.to_thread(collector.stop)

    answers = _Answers(collector, read_history)
    return Starlette(
        routes=[
            Route("/", answers.page),
            Route("/api/state", answers.state),
            Route("/api/history", answers.history),
            Route("/events", answers.events),
            Route("/healthz", answers.health),
            Mount("/static", StaticFiles(directory=PAGE)),
        ],
        middleware=[Middleware(Guard, names=names)],
        lifespan=lifespan,
    )


class _Answers:
    """The endpoints, over one collector."""

    def __init__(self, collector: Collector, read_history: ReadHistory) -> None:
        self._collector, self._read_history = collector, read_history

    async def page(self, _: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    async def state(self, _: Request) -> Response:
        beats = 0
        async with aclosing(self._collector.readings()) as readings:
            async for reading in readings:
                if isinstance(reading, Reading):
                    return Response(reading.body, media_type="application/json")
                beats += 1
                if beats * BEAT_SECONDS >= FIRST_STATE_SECONDS:
                    break
        return _refuse(503, "no state was read yet: ask again, or look at the page's log")

    async def history(self, request: Request) -> Response:
        feed = request.query_params.get("feed", "")
        try:
            samples = await asyncio.to_thread(self._read_history, feed)
        except KeyError:
            return _refuse(404, f"no history of a feed {feed!r}; /api/state lists the feeds")
        return _json({"feed": feed, "samples": list(samples)})

    async def events(self, _: Request) -> Response:
        if self._collector.open_pages >= MAX_PAGES:
            return _refuse(503, f"{MAX_PAGES} pages are open already; close one")
        return StreamingResponse(
            self._states(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def health(self, _: Request) -> Response:
        age = self._collector.age_seconds()
        is_well = age is not None and age < HEALTHY_SECONDS
        body = {"is_well": is_well, "state_age_seconds": age, "pages": self._collector.open_pages}
        return _json(body, 200 if is_well else 503)

    async def _states(self) -> AsyncIterator[bytes]:
        # At once, so that the browser knows that it is connected while the first state is read.
        yield b"retry: %d\n\n" % RETRY_MS
        async with aclosing(self._collector.readings()) as readings:
            async for reading in readings:
                if isinstance(reading, Reading):
                    yield b"event: state\nid: %d\ndata: %b\n\n" % (reading.number, reading.body)
                else:
                    yield b"event: beat\ndata:\n\n"


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


def _refuse(status: int, error: str) -> Response:
    return _json({"error": error}, status)
