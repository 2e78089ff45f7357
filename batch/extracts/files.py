"""Files as a source: a user's own history, or a vendor's dump, landed as it is and replayable.

    extractor = FilesExtractor("dump/", mapping=load_mapping(Path("acme.toml")), source="acme")

Parts are the files' own bytes, in name order. A file of JSON lines or CSV above `part_bytes` is
cut at line ends: its parts, joined, are the file. Of a cut CSV only the first part has the header
line; the others carry its text in their request (`csv_header`), which `extract_formats` reads.
Everything else is one part. Each part is read once before it is handed out: what lands can be
replayed, and a damaged file is said before anything counts.

Days: a file whose name (with its folders) holds days (2026-01-05, 2026_01_05, 20260105,
year=2026/month=01/day=05) is taken if its first to last day meet the request's; one without is
always taken. Options: `pattern` (which names, like "*.csv"), `format` (what all files are,
whatever their names say). Memory: one part and its messages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from batch.extracts import ExtractRequest, Part
from batch.extracts.folder import MAX_WHOLE_BYTES, FoundFile, open_place
from batch.extracts.mapping import plain_mapping
from stream.errors import ConfigError
from stream.feeds import load_feed
from stream.sources.extract_formats import items_of

PART_BYTES = 64 << 20
_READ_BYTES = 1 << 20

_ENDINGS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl.gz": "jsonl.gz",
    ".ndjson.gz": "jsonl.gz",
    ".csv.gz": "csv.gz",
}
_FORMATS = ("json", "jsonl", "csv", "parquet")
_OPTIONS = ("pattern", "format")
_DAY = re.compile(r"(?<!\d)(\d{4})[-_]?(\d{2})[-_]?(\d{2})(?!\d)")
_HIVE_DAY = re.compile(r"year=(\d{4})/month=(\d{1,2})/day=(\d{1,2})(?!\d)")


@dataclass(frozen=True, slots=True)
class _File:
    """A file that is taken, and what it is."""

    found: FoundFile
    suffix: str

    @property
    def is_cut(self) -> bool:
        return self.suffix in {"jsonl", "csv"}


class FilesExtractor:
    """A folder, a file or an object prefix; its one data set is the feed that it fills.

    Args: where: a path, or s3://bucket/prefix. feed: whose messages the files hold; a mapping
    names it itself. mapping: of CSV and Parquet (`mapping.load_mapping`); without one, columns
    are named like the feed's message fields. source: the vendor's name in Bronze.
    Raises: ConfigError for a feed that does not exist or is not the mapping's.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        feed: str | None = None,
        mapping: Mapping[str, object] | None = None,
        source: str = "files",
        part_bytes: int = PART_BYTES,
        region: str = "us-east-1",
        endpoint: str | None = None,
    ) -> None:
        named = str(mapping["feed"]) if mapping else feed
        if named is None:
            raise ConfigError(f"files {where}: say which feed they fill, or give a mapping")
        if feed is not None and feed != named:
            raise ConfigError(f"files {where}: feed {feed!r}, but the mapping is of {named!r}")
        if not 1 <= part_bytes <= MAX_WHOLE_BYTES:
            raise ConfigError(f"part_bytes: expected 1 to {MAX_WHOLE_BYTES:,}, found {part_bytes}")
        self.source = source
        self._contract = load_feed(named)
        self._mapping = mapping or plain_mapping(self._contract)
        self._place = open_place(where, region=region, endpoint=endpoint)
        self._part_bytes = part_bytes

    def feed_of(self, dataset: str) -> str:
        """The feed; a data set is named like it."""
        if dataset != self._contract.feed:
            raise ConfigError(
                f"files {self._place.root}: no data set {dataset!r}; there is "
                f"{self._contract.feed!r}"
            )
        return dataset

    def mapping_of(self, dataset: str) -> Mapping[str, object]:
        """How columns become messages; also where all files are JSON, which needs none."""
        self.feed_of(dataset)
        return self._mapping

    def extract(self, request: ExtractRequest) -> Iterator[Part]:
        """Every file of the request's days, cut where it is large."""
        self.feed_of(request.dataset)
        if request.symbols:
            raise ConfigError(
                "files are taken whole: leave symbols out, or choose files with the option pattern"
            )
        for file in self._choose(request):
            yield from self._parts(file)

    def _choose(self, request: ExtractRequest) -> list[_File]:
        options = check_options(request.options)
        pattern = options.get("pattern", "*")
        named = [f for f in self._place.files() if fnmatchcase(f.name, pattern)]
        if not named:
            raise ConfigError(f"files {self._place.root}: no file is named like {pattern!r}")
        suffixes = {f.name: _suffix(f.name, options.get("format")) for f in named}
        odd = [name for name, suffix in suffixes.items() if suffix is None]
        if odd:
            raise ConfigError(
                f"files {self._place.root}: {', '.join(odd[:5])}{' …' if len(odd) > 5 else ''}: "
                f"no known ending ({', '.join(_ENDINGS)}). Choose files with the option pattern, "
                f"or say what all are with the option format ({', '.join(_FORMATS)})."
            )
        return [
            _File(f, suffix)
            for f in named
            if (suffix := suffixes[f.name])
            and has_days(f.name, request.first_day, request.last_day)
        ]

    def _parts(self, file: _File) -> Iterator[Part]:
        name = f"files {self._place.root}: {file.found.name}"
        if not file.is_cut and file.found.bytes > MAX_WHOLE_BYTES:
            raise ConfigError(
                f"{name}: {file.found.bytes:,} bytes of {file.suffix} cannot be cut and are more "
                f"than {MAX_WHOLE_BYTES:,}. Write smaller files (of a day, say), or unpack it."
            )
        options: Mapping[str, Any] = self._mapping.get("csv") or {}  # type: ignore[assignment]
        header: str | None = None
        with self._place.open(file.found) as stream:
            for start, data in self._pieces(name, file, stream, options):
                request = {"file": os.fsencode(file.found.name).decode(errors="replace")}
                if len(data) != file.found.bytes:
                    request["bytes"] = f"{start}-{start + len(data) - 1}"
                if file.suffix == "csv" and not start:
                    header = _first_line(data, options)
                elif header is not None:
                    request["csv_header"] = header
                items = items_of(
                    name, data, file.suffix, self._mapping, header=request.get("csv_header")
                )
                yield Part(data, file.suffix, len(items), request)

    def _pieces(
        self, name: str, file: _File, stream: BinaryIO, options: Mapping[str, Any]
    ) -> Iterator[tuple[int, bytes]]:
        if not file.is_cut:
            yield 0, stream.read()
            return
        quote = options.get("quote", '"').encode() if file.suffix == "csv" else None
        yield from cut_lines(stream, self._part_bytes, quote, name)


def cut_lines(
    stream: BinaryIO, size: int, quote: bytes | None, name: str
) -> Iterator[tuple[int, bytes]]:
    r"""Cut a stream at line ends into pieces of at most `size` bytes, with where each begins.

    A longer line is a piece of its own. With `quote`, a newline between quotes ends no line.
    Raises: ConfigError for a line above `MAX_WHOLE_BYTES`.

    >>> import io
    >>> list(cut_lines(io.BytesIO(b'a,"x\ny"\nb\nc'), 8, b'"', "doc"))
    [(0, b'a,"x\ny"\n'), (8, b'b\nc')]
    """
    start, rest, is_last = 0, b"", False
    while not is_last:
        wanted = max(size - len(rest), _READ_BYTES)
        data = stream.read(wanted)
        rest += data
        is_last = len(data) < wanted
        while len(rest) > size and 0 < (end := _last_line_end(rest, size, quote)) < len(rest):
            yield start, rest[:end]
            start, rest = start + end, rest[end:]
        if len(rest) > MAX_WHOLE_BYTES:
            raise ConfigError(
                f"{name}: a line of more than {MAX_WHOLE_BYTES:,} bytes at byte {start:,}. Look "
                "whether the file is what its name says."
            )
    yield start, rest


def _last_line_end(data: bytes, size: int, quote: bytes | None) -> int:
    """Where the last line that fits `size` ends; of a longer first line, its own end; else 0."""
    if quote is None:
        return data.rfind(b"\n", 0, size) + 1 or data.find(b"\n", size) + 1
    buffer = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(buffer == 10)
    quotes = np.flatnonzero(buffer == quote[0])
    ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] + 1
    fitting = ends[ends <= size]
    return int(fitting[-1]) if len(fitting) else int(ends[0]) if len(ends) else 0


def _first_line(data: bytes, options: Mapping[str, Any]) -> str | None:
    """The header's text, for the parts that lack it."""
    if options.get("header"):
        return None
    encoding, quote = options.get("encoding", "utf-8"), options.get("quote", '"').encode()
    data = data[:_READ_BYTES]
    line = data[: _last_line_end(data, 1, quote) or len(data)]
    return line.decode(encoding, errors="replace").removeprefix("\ufeff").rstrip("\r\n")


def _suffix(name: str, kind: str | None) -> str | None:
    """What a file is, by its name's ending or as told."""
    if kind is not None:
        is_packed = name.lower().endswith(".gz") and kind in {"jsonl", "csv"}
        return f"{kind}.gz" if is_packed else kind
    lower = name.lower()
    return next((s for ending, s in _ENDINGS.items() if lower.endswith(ending)), None)


def check_options(options: Mapping[str, str]) -> Mapping[str, str]:
    """The request's options. Raises: ConfigError naming all that are not known."""
    odd = [key for key in options if key not in _OPTIONS]
    if odd:
        raise ConfigError(f"files: no option {', '.join(odd)}; options are {', '.join(_OPTIONS)}")
    if options.get("format", "json") not in _FORMATS:
        raise ConfigError(
            f"files: format {options['format']!r}: expected one of {', '.join(_FORMATS)}"
        )
    return options


def has_days(name: str, first: date | None, last: date | None) -> bool:
    """Whether a file may hold rows of these days, by the days in its name.

    >>> has_days("acme/trades-2026-01-05.csv", date(2026, 1, 6), None)
    False
    >>> has_days("acme/trades.csv", date(2026, 1, 6), None)
    True
    """
    days = []
    for found in (*_DAY.findall(name), *_HIVE_DAY.findall(name)):
        try:
            days.append(date(*map(int, found)))
        except ValueError:
            continue
    if not days:
        return True
    return (first is None or max(days) >= first) and (last is None or min(days) <= last)
