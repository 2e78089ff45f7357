"""What can be asked of a lake: one method per route of the API, plain arguments, tables back.

Times are ISO text, `date` or `datetime` (without a zone: UTC); a range takes its start and leaves
out its end. Nothing is guessed: a wrong symbol, day or interval is refused by the API, which says
why.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any, Literal, Self

import orjson
import pyarrow as pa

from stream.client.answer import Answer
from stream.client.pages import Pages
from stream.errors import ConfigError
from stream.serving.keys import TOKEN_FILE
from stream.settings import Settings, load_settings

Time = str | date | datetime
Interval = Literal["1m", "5m", "15m", "1h", "1d"]
PAGE_ROWS = 10_000
"""The most that the API gives in one answer."""


def connect(url: str | None = None, token: str | None = None) -> Lake:
    """A connection to an API; nothing is asked yet.

    Args: url: default: of `headrace api` on this machine. token: default: HEADRACE_API_TOKEN, or
    what that API wrote into its home; on AWS an access token of your identity provider.
    Raises: ConfigError when there is no token to be found.
    """
    settings = load_settings()
    here = f"http://{settings.api_host}:{settings.api_port}"
    return Lake(Pages(url or here, token or _local_token(settings)))


class Lake:
    """Reads of one lake; every method asks at once and gives all rows of the question.

    Raises (each method): ConfigError (the API refuses the question and says why), ThrottledError,
    StoreUnavailableError (no answer).
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def trades(
        self,
        symbol: str,
        day: Time | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        venue: str | None = None,
        known_at: Time | None = None,
        limit: int | None = None,
    ) -> Answer:
        """Trades that stand, in the order of events. `known_at`: as they were known at that time,
        before later corrections and cancels. `limit`: the first so many rows.
        """
        given = {"symbol": symbol, "venue": venue, "known_at": _iso(known_at)}
        return self._rows("/v1/trades", {**given, **_range(day, start, end)}, limit)

    def quotes(
        self,
        symbol: str,
        day: Time | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        venue: str | None = None,
        known_at: Time | None = None,
        limit: int | None = None,
    ) -> Answer:
        """Changes of best bid or ask, in the order of events. `known_at`: see `trades`."""
        given = {"symbol": symbol, "venue": venue, "known_at": _iso(known_at)}
        return self._rows("/v1/quotes", {**given, **_range(day, start, end)}, limit)

    def quote_as_of(self, symbol: str, at: Time, *, venue: str | None = None) -> Answer:
        """The quote in force at a time: the last of each venue that is not after it."""
        given = {"symbol": symbol, "at": _iso(at), "venue": venue}
        return self._rows("/v1/quotes/as-of", given, None)

    def bars(
        self,
        symbol: str,
        interval: Interval = "1m",
        day: Time | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        venue: str | None = None,
        limit: int | None = None,
    ) -> Answer:
        """Bars; minutes are as fresh as trades, longer ones as Gold."""
        given = {"symbol": symbol, "interval": interval, "venue": venue}
        return self._rows("/v1/bars", {**given, **_range(day, start, end)}, limit)

    def news(
        self,
        symbol: str | None = None,
        day: Time | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        limit: int | None = None,
    ) -> Answer:
        """News, of one symbol or of all."""
        return self._rows("/v1/news", {"symbol": symbol, **_range(day, start, end)}, limit)

    def condition(self, feed: str, start: Time | None = None, end: Time | None = None) -> Answer:
        """Per day: available, degraded, pending or missing, and why."""
        return self._rows("/v1/condition", {"feed": feed, **_range(None, start, end)}, None)

    def freshness(self) -> Any:
        """Per feed: how old the newest row is that a query sees. Plain objects."""
        return self._pages.json("/v1/freshness", {})["data"]

    def lag(self) -> Any:
        """Per shard: how far the dataflow is behind. Plain objects."""
        return self._pages.json("/v1/lag", {})["data"]

    def feeds(self) -> Any:
        """The feeds, their columns and what is promised of them. Plain objects."""
        return self._pages.json("/v1/feeds", {})["data"]

    def close(self) -> None:
        """Free the connections."""
        self._pages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _rows(self, path: str, given: Mapping[str, Any], limit: int | None) -> Answer:
        if limit is not None and limit < 1:
            raise ConfigError(f"limit is {limit}: expected at least 1, or none for all rows")
        given = {**given, "limit": min(limit or PAGE_ROWS, PAGE_ROWS)}
        found, rows, source = [], 0, ""
        for table, as_of in self._pages.read(path, given):
            found.append(table)
            rows, source = rows + table.num_rows, as_of
            if limit is not None and rows >= limit:
                break
        return Answer(pa.concat_tables(found).slice(0, limit), orjson.loads(source or "{}"))


def _local_token(settings: Settings) -> str:
    if settings.api_token is not None:
        return settings.api_token.get_secret_value()
    path = settings.home / TOKEN_FILE
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"no token for the API: {path}: {error.strerror}. Give `connect(token=...)`, set "
            "HEADRACE_API_TOKEN, or start `headrace api` in the same home, which makes one."
        ) from error


def _range(day: Time | None, start: Time | None, end: Time | None) -> dict[str, str | None]:
    if day is not None and (start is not None or end is not None):
        raise ConfigError("give a day, or a start and an end, not both")
    return {
        "day": None if day is None else str(day.date() if isinstance(day, datetime) else day),
        "from": _iso(start),
        "to": _iso(end),
    }


def _iso(time: Time | None) -> str | None:
    if isinstance(time, datetime):
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
    return None if time is None else str(time)
