"""Financial Modeling Prep's `/stable` API: prices, quotes, news and profiles as extracts.

One answer is one part with the exact bytes; an empty answer is a part without rows, which proves
that we asked. Long ranges are cut into windows that the API answers whole, news are paged up to
the first empty page. One extractor may be shared by threads: its calls share one budget.
Days are the exchange's own; a regular American session lies within one UTC day of that name.
Both ends of a window are taken as included: FMP shows it for prices and says nothing for news.
Not here: HTTP, waiting, the key (`http`); what the items mean (`stream.feeds`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Self

from pydantic import SecretStr

from batch.extracts import ExtractRequest, Part
from batch.extracts.http import CallRule, JsonClient
from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError, PipelineError, StoreUnavailableError, ThrottledError
from stream.feeds.prices_intraday import INTERVALS, ZONES

FMP_URL = "https://financialmodelingprep.com/stable"
FMP_HOSTS = ("financialmodelingprep.com",)

NEWS_PER_PAGE = 250
"""The most that FMP gives, whatever limit is asked for."""
MAX_PAGES = 100
SYMBOLS_PER_CALL = 20
_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.^=_-]{0,31}")
_FOREIGN = re.compile(r".+\.[A-Za-z]+")
"""FMP marks a foreign exchange by a suffix ("VOD.L"), an American class of shares by "-"."""


@dataclass(frozen=True, slots=True)
class _Dataset:
    """One kind of data. `window_days`: days of one call; None for a snapshot, which has no days.

    `options`: what may be said in a request, and the values it may have; the first is the default.
    """

    path: str
    feed: str | None
    window_days: int | None = None
    symbols_per_call: int = 1
    has_pages: bool = False
    options: Mapping[str, tuple[str, ...]] | None = None


_INTRADAY = {"interval": INTERVALS, "zone": ZONES}

DATASETS: Mapping[str, _Dataset] = {
    # At most 5,000 bars are answered: five years have 1,825 days.
    "prices_daily": _Dataset("historical-price-eod/full", "prices_daily", window_days=5 * 365),
    "prices_intraday": _Dataset(
        "historical-chart/{interval}", "prices_intraday", window_days=1, options=_INTRADAY
    ),
    "quotes": _Dataset("batch-aftermarket-quote", "quotes", symbols_per_call=SYMBOLS_PER_CALL),
    # Price, day's range and volume, but no bid and no ask, so no top of book; and no daily bar
    # either: FMP does not say of which moment and session its `timestamp` (in seconds) is.
    "quote_snapshots": _Dataset("quote", None),
    "news": _Dataset(
        "news/stock", "news", window_days=30, symbols_per_call=SYMBOLS_PER_CALL, has_pages=True
    ),
    "profiles": _Dataset("profile", None),
}

_WINDOW_DAYS = {"1min": 1, "5min": 5, "15min": 15, "30min": 30, "1hour": 60}
"""Days of one intraday call: as many bars as one session has minutes. FMP cuts longer answers at
a number of rows that it does not name, and keeps the newest."""


class FmpExtractor:
    """Extracts from FMP. To be closed, or used as a context manager."""

    def __init__(
        self,
        api_key: SecretStr,
        *,
        base_url: str = FMP_URL,
        rule: CallRule | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Raises: ConfigError for an unusable key or address."""
        self._client = JsonClient(
            "FMP",
            base_url,
            hosts=FMP_HOSTS,
            key_header="apikey",
            api_key=api_key,
            rule=rule,
            clock=clock,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def source(self) -> str:
        """`source=fmp` in Bronze."""
        return "fmp"

    def feed_of(self, dataset: str) -> str | None:
        """The feed of a data set's items. Raises: ConfigError naming the data sets."""
        return _find(dataset).feed

    def mapping_of(self, dataset: str) -> Mapping[str, object]:
        """Nothing: answers are JSON."""
        _find(dataset)
        return {}

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        """The answers, in order of symbols, days and pages.

        Raises: ConfigError at once for a request that FMP could not answer; while parts are
        fetched ConfigError (key refused) and RetryableError (no answer after all attempts).
        """
        dataset = _find(request.dataset)
        options = _read_options(request, dataset)
        windows = _cut_windows(request, dataset, options)
        groups = _group_symbols(request, dataset, options)
        return self._fetch(dataset, options, groups, windows)

    def _fetch(
        self,
        dataset: _Dataset,
        options: Mapping[str, str],
        groups: list[str],
        windows: list[dict[str, str]],
    ) -> Iterator[Part]:
        path = dataset.path.format(**options)
        name = "symbol" if dataset.symbols_per_call == 1 else "symbols"
        for symbols in groups:
            context = {"symbol": symbols, **options} if options else {}
            for window in windows:
                params = {name: symbols, **window}
                if dataset.has_pages:
                    yield from self._pages(path, params)
                else:
                    yield self._part(path, params, context)

    def _pages(self, path: str, params: Mapping[str, str]) -> Iterator[Part]:
        """Pages up to the first empty one: a short page need not be the last."""
        for page in range(MAX_PAGES + 1):
            paging = {"page": str(page), "limit": str(NEWS_PER_PAGE)}
            part = self._part(path, {**params, **paging}, {})
            yield part
            if not part.rows:
                return
        raise ConfigError(
            f"FMP {path} for {', '.join(params.values())}: more than {MAX_PAGES} pages; ask for "
            "fewer symbols or days"
        )

    def _part(self, path: str, params: Mapping[str, str], context: Mapping[str, str]) -> Part:
        answer = self._client.get(path, params, _judge)
        return Part(
            data=answer.data,
            suffix="json",
            rows=len(answer.value),
            request={"path": path, **params},
            context=context,
        )


def _judge(value: Any) -> PipelineError | None:
    """FMP reports a refusal as an object, sometimes with status 200."""
    if isinstance(value, dict) and "Error Message" in value:
        text = str(value["Error Message"])
        if "limit reach" in text.lower():
            return ThrottledError(f"the plan's calls are used up: {text}")
        return ConfigError(f"the API key was refused, or its plan does not hold this data: {text}")
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        kind = "a list of other things" if isinstance(value, list) else type(value).__name__
        return StoreUnavailableError(f"expected a JSON list of objects, found {kind}")
    return None


def _find(dataset: str) -> _Dataset:
    if dataset not in DATASETS:
        raise ConfigError(f"FMP has no data set {dataset!r}; it has {', '.join(DATASETS)}")
    return DATASETS[dataset]


def _read_options(request: ExtractRequest, dataset: _Dataset) -> Mapping[str, str]:
    """Every option of the data set with its value. Raises: ConfigError naming what is valid."""
    valid = dataset.options or {}
    for name, value in request.options.items():
        if name not in valid:
            raise ConfigError(
                f"FMP {request.dataset}: no option {name!r}; options: {', '.join(valid) or 'none'}"
            )
        if value not in valid[name]:
            raise ConfigError(
                f"FMP {request.dataset}: option {name} is {value!r}, expected one of "
                f"{', '.join(valid[name])}"
            )
    return {name: request.options.get(name, values[0]) for name, values in valid.items()}


def _cut_windows(
    request: ExtractRequest, dataset: _Dataset, options: Mapping[str, str]
) -> list[dict[str, str]]:
    """`from` and `to` of each call, oldest first, together exactly the range."""
    first, last = request.first_day, request.last_day
    if dataset.window_days is None:
        if first or last:
            raise ConfigError(
                f"FMP {request.dataset} are of now and have no days: leave the range away"
            )
        return [{}]
    if first is None or last is None or first > last:
        raise ConfigError(
            f"FMP {request.dataset}: expected a first and a last day in order, found {first} and "
            f"{last}"
        )
    days = _WINDOW_DAYS.get(options.get("interval", ""), dataset.window_days)
    return [
        {"from": begin.isoformat(), "to": min(begin + timedelta(days=days - 1), last).isoformat()}
        for begin in _every(first, last, days)
    ]


def _every(first: date, last: date, days: int) -> list[date]:
    return [first + timedelta(days=at) for at in range(0, (last - first).days + 1, days)]


def _group_symbols(
    request: ExtractRequest, dataset: _Dataset, options: Mapping[str, str]
) -> list[str]:
    """The symbols of each call, each symbol once. Raises: ConfigError."""
    symbols = list(dict.fromkeys(request.symbols))
    if not symbols:
        raise ConfigError(f"FMP {request.dataset}: name at least one symbol, such as AAPL")
    for symbol in symbols:
        if not _SYMBOL.fullmatch(symbol):
            raise ConfigError(
                f"FMP {request.dataset}: {symbol!r} is no symbol; expected letters, digits and "
                "'.^=_-', such as AAPL, BRK-B or ^GSPC"
            )
        if "zone" in options and "zone" not in request.options and _FOREIGN.fullmatch(symbol):
            raise ConfigError(
                f"FMP {request.dataset}: {symbol} trades outside the USA and its bars are in "
                f"local time; set option zone to one of {', '.join(ZONES)}"
            )
    size = dataset.symbols_per_call
    return [",".join(symbols[at : at + size]) for at in range(0, len(symbols), size)]
