"""The routes: what can be asked, and nothing of how it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router

from stream.feeds import load_feeds
from stream.feeds.venues import VENUES
from stream.serving.documents import ALWAYS, json_responses, page_responses
from stream.serving.formats import encode_json
from stream.serving.moments import DAY_NS
from stream.serving.pages import Answer, Asked, Pages
from stream.serving.parameters import (
    MAX_LIMIT,
    At,
    Day,
    Feed,
    From,
    Interval,
    KnownAt,
    Limit,
    NextCursor,
    OptionalSymbol,
    Symbol,
    To,
    Venue,
    check_known,
    read_range,
    read_time,
)
from stream.serving.problem import ProblemError
from stream.serving.request import current_request, send_binary
from stream.serving.resource import INTERVALS, bars, news, quotes, trades
from stream.serving.statements import CONDITION, select_condition, select_in_force
from stream.serving.status import Status

OPEN_PATHS = ("/v1/health", "/openapi.json")
"""These ask for no token."""
IN_FORCE_DAYS = 7
CURSORS = (400, 410, 504)
OBJECTS = {"type": "array", "items": {"type": "object"}}


def build_routes(pages: Pages, status: Status, document: Any) -> Router:
    """A router over what answers. `document`: gives OpenAPI's text."""
    router = Router()  # type: ignore[no-untyped-call]  # the library's
    _add_rows(router, pages)
    _add_bars(router, pages)
    _add_condition(router, pages)
    _add_status(router, status, document)
    return router


def _add_rows(router: Router, pages: Pages) -> None:
    @router.get(
        "/v1/trades",
        summary="Trades that stand, or stood at a time",
        description="Corrected trades as corrected, cancelled ones not at all; ordered by time.",
        operation_id="trades",
        responses=page_responses([trades()], CURSORS),
    )
    def read_trades(
        *,
        symbol: Symbol,
        venue: Venue = None,
        start: From = None,
        end: To = None,
        day: Day = None,
        known_at: KnownAt = None,
        limit: Limit = 1000,
        cursor: NextCursor = None,
    ) -> Response[Any]:
        begins, ends = read_range(start, end, day)
        known = read_time("known_at", known_at)
        asked = Asked(trades(), _equal(venue), symbol, begins, ends, known, limit, cursor)
        return _respond(pages.read(current_request(), asked))

    @router.get(
        "/v1/quotes",
        summary="Changes of best bid or ask",
        description="Ordered by time.",
        operation_id="quotes",
        responses=page_responses([quotes()], CURSORS),
    )
    def read_quotes(
        *,
        symbol: Symbol,
        venue: Venue = None,
        start: From = None,
        end: To = None,
        day: Day = None,
        known_at: KnownAt = None,
        limit: Limit = 1000,
        cursor: NextCursor = None,
    ) -> Response[Any]:
        begins, ends = read_range(start, end, day)
        known = read_time("known_at", known_at)
        asked = Asked(quotes(), _equal(venue), symbol, begins, ends, known, limit, cursor)
        return _respond(pages.read(current_request(), asked))

    @router.get(
        "/v1/quotes/as-of",
        summary="The quote in force",
        description=f"Per venue the newest quote that is not after the moment, {IN_FORCE_DAYS} "
        "days old at most.",
        operation_id="quotes_as_of",
        responses=page_responses([quotes()], (504,)),
    )
    def read_quotes_as_of(
        *,
        symbol: Symbol,
        at: At,
        venue: Venue = None,
        known_at: KnownAt = None,
        limit: Limit = 1000,
    ) -> Response[Any]:
        moment = read_time("at", at)
        assert moment is not None
        begins, ends = moment - IN_FORCE_DAYS * DAY_NS, moment + 1
        known = read_time("known_at", known_at)
        asked = Asked(
            quotes(), _equal(venue), symbol, begins, ends, known, limit,
            make=select_in_force, is_paged=False,
        )  # fmt: skip
        return _respond(pages.read(current_request(), asked))

    @router.get(
        "/v1/news",
        summary="News, of one symbol or of all",
        description="Ordered by time of publication; without a symbol at most 31 days at once.",
        operation_id="news",
        responses=page_responses([news()], CURSORS),
    )
    def read_news(
        *,
        symbol: OptionalSymbol = None,
        start: From = None,
        end: To = None,
        day: Day = None,
        known_at: KnownAt = None,
        limit: Limit = 1000,
        cursor: NextCursor = None,
    ) -> Response[Any]:
        begins, ends = read_range(start, end, day)
        known = read_time("known_at", known_at)
        asked = Asked(news(), {}, symbol, begins, ends, known, limit, cursor)
        return _respond(pages.read(current_request(), asked))


def _add_bars(router: Router, pages: Pages) -> None:
    @router.get(
        "/v1/bars",
        summary="Price bars of trades",
        description="One minute as fresh as trades (Silver); longer ones as of the published build "
        "of Gold. A range is widened to whole bars; periods without trades have none.",
        operation_id="bars",
        responses=page_responses([bars("1m")], (*CURSORS, 409)),
    )
    def read_bars(
        *,
        symbol: Symbol,
        interval: Interval = "1m",
        venue: Venue = None,
        start: From = None,
        end: To = None,
        day: Day = None,
        limit: Limit = 1000,
        cursor: NextCursor = None,
    ) -> Response[Any]:
        begins, ends = read_range(start, end, day)
        asked = Asked(
            bars(interval), _equal(venue), symbol, begins, ends, None, limit, cursor,
            width_ns=INTERVALS[interval],
        )  # fmt: skip
        return _respond(pages.read(current_request(), asked))


def _add_condition(router: Router, pages: Pages) -> None:
    @router.get(
        "/v1/condition",
        summary="Whether days of a feed can be relied on",
        description="Per venue and UTC day: available, degraded, pending or missing, and why. As "
        "of the published build of Gold. Default: the last 30 days.",
        operation_id="condition",
        responses=page_responses([CONDITION], (409, 504)),
    )
    def read_condition(
        *,
        feed: Feed = "trades",
        venue: Venue = None,
        start: From = None,
        end: To = None,
        limit: Limit = MAX_LIMIT,
    ) -> Response[Any]:
        check_known("feed", feed, load_feeds())
        if feed != "trades":
            raise ProblemError(
                404, "no-condition", f"Gold tells the condition of trades alone, not of {feed}."
            )
        begins, ends = read_range(start, end, None)
        asked = Asked(
            CONDITION, _equal(venue), "", begins, ends, None, limit,
            width_ns=DAY_NS, make=select_condition, is_paged=False, default_days=30,
        )  # fmt: skip
        return _respond(pages.read(current_request(), asked))


def _add_status(router: Router, status: Status, document: Any) -> None:
    @router.get(
        "/v1/freshness",
        summary="How old the newest row is that a query sees",
        operation_id="freshness",
        responses=json_responses(OBJECTS, (*ALWAYS, 404)),
    )
    def read_freshness(feed: Feed = None) -> Response[Any]:
        check_known("feed", feed, load_feeds())
        return _json(status.freshness(feed))

    @router.get(
        "/v1/lag",
        summary="How far the dataflow is behind its stream, per shard",
        description="Read at most every 5 seconds, whoever asks.",
        operation_id="lag",
        responses=json_responses(OBJECTS, (*ALWAYS, 404)),
    )
    def read_lag(feed: Feed = None) -> Response[Any]:
        check_known("feed", feed, load_feeds())
        return _json(status.lag(feed))

    @router.get(
        "/v1/feeds",
        summary="The feeds, their columns and what is promised of them",
        operation_id="feeds",
        responses=json_responses(OBJECTS),
    )
    def read_feeds() -> Response[Any]:
        return _json(status.feeds())

    health = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
    open_problems = (405, 413, 414, 422, 429, 431, 500, 503)

    @router.get(
        "/v1/health",
        summary="That the API answers; it says nothing of the lake",
        operation_id="health",
        responses=json_responses(health, open_problems),
    )
    def read_health() -> Response[Any]:
        return _json({"status": "ok"})

    @router.get(
        "/openapi.json",
        summary="This document",
        operation_id="openapi",
        responses={
            **json_responses({}, open_problems),
            200: {
                "description": "OpenAPI 3.1",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
        },
    )
    def read_document() -> Response[Any]:
        return Response(200, "application/json", document())


def _equal(venue: str | None) -> Mapping[str, str]:
    check_known("venue", venue, VENUES)
    return {} if venue is None else {"venue": venue}


def _json(value: Any) -> Response[Any]:
    content = encode_json({"data": value})
    return Response(200, content.media, content.body)


def _respond(answer: Answer) -> Response[Any]:
    headers: dict[str, Any] = dict(answer.headers)
    if answer.content is None:
        return Response(answer.status, None, "", headers)
    body = answer.content.body
    if isinstance(body, bytes):
        send_binary(body)
        body = ""
    return Response(answer.status, answer.content.media, body, headers)
