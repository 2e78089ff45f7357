"""Simulated history as a source: any day of the simulated market, without a vendor or a key.

For trying replay and backfill, and for their tests. A day's parts are a pure function of data
set, day, symbols and options: extracted twice, the same bytes land. Options: `rows_per_day`
(of prices_daily: as many symbols, unless they are named), `rows_per_part`, `seed`. Every day is
a trading day. The books (`positions`, `transactions`) hold what they hold: neither symbols nor
rows can be asked for; a day on which nothing happened has no part. Not here: the market
(`stream.producers.simulate_history`), the books (`stream.producers.simulate_books`).
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta

from batch.extracts import ExtractRequest, Part
from stream.errors import ConfigError
from stream.producers.simulate_books import BOOK_FEEDS, simulate_book_day
from stream.producers.simulate_history import DEFAULT_SYMBOLS, HISTORY_FEEDS, simulate_day

DATASETS = (*HISTORY_FEEDS, *BOOK_FEEDS)

DEFAULTS = {"rows_per_day": 10_000, "rows_per_part": 100_000, "seed": 7}
MAX_ROWS_PER_DAY = 20_000_000
"""A day's times are drawn at once: 16 bytes a row."""

_FIRST_DAY = date(1970, 1, 2)  # its open is the close of the day before


class SimulatedExtractor:
    """History of the simulated market."""

    source = "simulated"

    def feed_of(self, dataset: str) -> str:
        """A data set is named like the feed it fills."""
        if dataset not in DATASETS:
            raise ConfigError(
                f"simulated: no data set {dataset!r}; there are {', '.join(DATASETS)}"
            )
        return dataset

    def mapping_of(self, dataset: str) -> Mapping[str, object]:
        """JSON lines need none."""
        self.feed_of(dataset)
        return {}

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        """One part a day, more if it has more than `rows_per_part` rows."""
        feed = self.feed_of(request.dataset)
        options = check_options(request.options)
        if feed == "prices_daily" and "rows_per_day" not in request.options:
            options["rows_per_day"] = DEFAULT_SYMBOLS
        if feed in BOOK_FEEDS:
            del options["rows_per_day"]
            _check_books(request)
        _check_symbols(request.symbols)
        for day in _days(request):
            for number, lines in enumerate(_parts_of(feed, day, request.symbols, options)):
                data = gzip.compress(b"\n".join(lines) + b"\n", mtime=0)
                named = {key: str(value) for key, value in options.items()}
                asked = {"day": day.isoformat(), "part": str(number), **named}
                yield Part(data, "jsonl.gz", len(lines), asked)


def _parts_of(
    feed: str, day: date, symbols: tuple[str, ...], options: Mapping[str, int]
) -> Iterator[list[bytes]]:
    size, seed, lines = options["rows_per_part"], options["seed"], list[bytes]()
    days: Iterator[list[bytes]]
    if feed in BOOK_FEEDS:
        days = iter([simulate_book_day(feed, day, seed=seed)])
    else:
        days = simulate_day(feed, day, rows=options["rows_per_day"], seed=seed, symbols=symbols)
    for more in days:
        lines += more
        while len(lines) >= size:
            yield lines[:size]
            lines = lines[size:]
    if lines:
        yield lines


def _days(request: ExtractRequest) -> Iterator[date]:
    first, last = request.first_day, request.last_day
    if first is None or last is None:
        raise ConfigError("simulated: say the first and the last day; it has no end of its own")
    if not _FIRST_DAY <= first <= last:
        raise ConfigError(
            f"simulated: days {first} to {last}: expected a range that begins on {_FIRST_DAY} or "
            "later and does not end before it begins"
        )
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def check_options(options: Mapping[str, str]) -> dict[str, int]:
    """The options with their defaults. Raises: ConfigError naming all that are wrong."""
    faults = [f"no option {key!r}" for key in options if key not in DEFAULTS]
    found = dict(DEFAULTS)
    for key in DEFAULTS.keys() & options.keys():
        text, most = options[key], 2**63 - 1 if key == "seed" else MAX_ROWS_PER_DAY
        least = 0 if key == "seed" else 1
        is_number = re.fullmatch(r"[0-9]{1,19}", text)
        if not is_number or not least <= int(text) <= most:
            faults.append(f"{key}: found {text!r}, expected {least:,} to {most:,}")
        else:
            found[key] = int(text)
    if faults:
        raise ConfigError(f"simulated: {'; '.join(faults)}; options are {', '.join(DEFAULTS)}")
    return found


def _check_books(request: ExtractRequest) -> None:
    """Their rows follow from the portfolios: half a book would contradict its cash."""
    if request.symbols or "rows_per_day" in request.options:
        raise ConfigError(
            f"simulated: {request.dataset} are whole books; ask for them without symbols and "
            "without rows_per_day"
        )


def _check_symbols(symbols: tuple[str, ...]) -> None:
    bad = [symbol for symbol in symbols if not re.fullmatch(r"[A-Z0-9][A-Z0-9._-]{0,31}", symbol)]
    if bad or len(set(symbols)) != len(symbols):
        raise ConfigError(
            f"simulated: symbols {', '.join(map(repr, bad)) or 'named twice'}: expected different "
            "names of up to 32 capital letters, digits, '.', '-' and '_'"
        )
