"""What is polled for news: FMP's stock news and RSS feeds, each as requests and items.

Pure: builds the request of a poll and reads its answer. The FMP key travels in a header, so it is
in no address and no log line. Not here: fetching, waiting, remembering (`news`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
from pydantic import SecretStr

from stream.errors import ConfigError
from stream.producers.address import THIS_MACHINE, is_allowed_by_name
from stream.producers.answer import UnreadableAnswerError
from stream.producers.pack import DEFAULT_BUCKETS, partition_key
from stream.producers.rss import parse_rss

FMP_URL = "https://financialmodelingprep.com/stable/news/stock"
FMP_HOSTS = ("financialmodelingprep.com",)


@dataclass(frozen=True, slots=True)
class Request:
    """One GET; `headers` may hold a key and is never logged."""

    url: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Item:
    """One story as it will be published. `published` is the source's own text, for the cursor."""

    key: str
    data: bytes
    published: str


class NewsFeed(Protocol):
    """One polled address. `page_items`: how many items a full page has, None if it has no pages.

    `private_hosts`: those that need not be public. `has_fixed_host`: the host is a known one, not a
    user's choice; where it leads need not be looked at.
    """

    name: str
    url: str
    page_items: int | None
    private_hosts: Collection[str]
    has_fixed_host: bool

    def request(self, page: int, since: str) -> Request:
        """The request of a page; `since` is the cursor, '' at first."""
        ...

    def parse(self, answer: bytes) -> list[Item]:
        """Items, newest first. Raises: UnreadableAnswerError, ConfigError (key refused)."""
        ...


class FmpNews:
    """FMP `news/stock`. Items leave with FMP's fields, values and order, one JSON line each."""

    name = "fmp"

    def __init__(
        self,
        api_key: SecretStr | None,
        symbols: Sequence[str],
        *,
        url: str = FMP_URL,
        page_items: int = 50,
        buckets: int = DEFAULT_BUCKETS,
    ) -> None:
        if api_key is None or not api_key.get_secret_value():
            raise ConfigError("news from FMP needs HEADRACE_FMP_API_KEY; RSS feeds need no key")
        if not symbols:
            raise ConfigError("news from FMP: name at least one symbol, such as AAPL")
        if not is_allowed_by_name(url, hosts=FMP_HOSTS, private=THIS_MACHINE):
            raise ConfigError(f"news from FMP: expected https:// and {', '.join(FMP_HOSTS)}")
        self.url = url
        self.private_hosts: Collection[str] = ()
        self.has_fixed_host = True
        self.page_items: int | None = page_items
        self._api_key = api_key
        self._symbols = ",".join(symbols)
        self._buckets = buckets

    def request(self, page: int, since: str) -> Request:
        """`from` takes a day: the cursor's own day is read again and de-duplicated."""
        params = {"symbols": self._symbols, "page": str(page), "limit": str(self.page_items)}
        if since:
            params["from"] = since[:10]
        return Request(self.url, params, {"apikey": self._api_key.get_secret_value()})

    def parse(self, answer: bytes) -> list[Item]:
        """A JSON list; FMP reports a refused key as an object, sometimes with status 200."""
        try:
            value = orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise UnreadableAnswerError(f"not JSON: {error}") from error
        if isinstance(value, dict) and "Error Message" in value:
            text = str(value["Error Message"]).replace(self._api_key.get_secret_value(), "***")
            raise ConfigError(f"FMP refused the request: {text[:200]}")
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise UnreadableAnswerError("expected a JSON list of objects")
        return [self._item(item) for item in value]

    def _item(self, item: dict[str, Any]) -> Item:
        key = partition_key("fmp", str(item.get("symbol") or "-"), self._buckets)
        return Item(key, orjson.dumps(item), str(item.get("publishedDate") or ""))


class RssNews:
    """One RSS 2.0 address. Its host is the items' `source`: a guid is unique only within one.

    A user's choice, so it must be of the public internet and https, except for `private_hosts`.
    """

    def __init__(
        self,
        url: str,
        *,
        private_hosts: Collection[str] = (),
        buckets: int = DEFAULT_BUCKETS,
    ) -> None:
        """Raises: ConfigError for an address that may not be asked; its text is not shown."""
        if not is_allowed_by_name(url, hosts=None, private=private_hosts):
            raise ConfigError(
                "news from RSS: expected https:// and a host of the public internet. For a feed of "
                "your own network, name its host in HEADRACE_NEWS_PRIVATE_HOSTS."
            )
        self.private_hosts = private_hosts
        self.has_fixed_host = False
        self.name = urlsplit(url).hostname or "rss"
        self.url = url
        self.page_items: int | None = None
        self._buckets = buckets

    def request(self, page: int, since: str) -> Request:
        """Always the same document: RSS has neither pages nor a cursor."""
        del page, since
        return Request(self.url, {}, {"Accept": "application/rss+xml, application/xml, text/xml"})

    def parse(self, answer: bytes) -> list[Item]:
        """The fields of an item that a story needs (see `rss`), and where it came from."""
        return [self._item(item) for item in parse_rss(answer)]

    def _item(self, item: dict[str, str | None]) -> Item:
        guid = item["guid"] or item["link"]
        key = partition_key(self.name, guid or "", self._buckets)
        data = orjson.dumps({"source": self.name, **item, "guid": guid})
        return Item(key, data, item["pubDate"] or "")
