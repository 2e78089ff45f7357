"""Extracts: pull history from an API, a database or files, and land it in Bronze as it came.

    Extractor.extract(request) ─▶ parts ─▶ Bronze objects ─▶ manifest (last) ─▶ replay into Silver

One file per source. An extractor only fetches: it yields `Part`s with the exact bytes that it
was given; `landing` makes them durable. Nothing is typed or dropped here; that is `replay`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Part:
    """One answer, document batch or file, exactly as received. See `stream.sources.extract`."""

    data: bytes
    suffix: str
    rows: int
    request: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExtractRequest:
    """What to extract: a data set, a range of UTC days (inclusive), and what the source takes.

    `options` never holds a secret: it is recorded in the manifest.
    """

    dataset: str
    first_day: date | None = None
    last_day: date | None = None
    symbols: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


class Extractor(Protocol):
    """One source of history."""

    @property
    def source(self) -> str:
        """The `source=` of its objects in Bronze; never the name of a feed."""
        ...

    def feed_of(self, dataset: str) -> str | None:
        """Whose messages a data set's items are; None if it stays in Bronze.

        Raises: ConfigError for a data set that the source does not have, naming those it has.
        """
        ...

    def mapping_of(self, dataset: str) -> Mapping[str, object]:
        """How CSV or Parquet columns become messages; empty for JSON."""
        ...

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        """Fetch, bounded in memory by one part. May be abandoned between any two parts.

        Raises: ConfigError (key refused, no such data), RetryableError (after its own retries).
        """
        ...
