"""Pages of rows: which snapshot, which rows, whether the caller has them already.

The first page pins the newest snapshot, its cursor carries the pin, so that all pages of a query
are of one snapshot: each row comes exactly once, whatever is committed or compacted meanwhile. A
page is a function of (query, snapshot, last key, size, form): that is its ETag, and why a page that
was made before is not made again.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pyarrow as pa

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.serving.cursor import TTL_MS, Cursor, fingerprint, seal, unseal
from stream.serving.formats import Encoded, Format, choose_format, encode_rows
from stream.serving.keys import KeyRing
from stream.serving.moments import DAY_NS, format_time
from stream.serving.problem import ProblemError
from stream.serving.request import Request
from stream.serving.resource import Resource
from stream.serving.rows import Make, Rows, State
from stream.serving.statements import Selection, select_rows

MAX_ANSWER_BYTES = 4_000_000
"""Lambda answers at most 6 MB, and binary grows by a third on its way out."""
KEPT_BYTES = 64_000_000
KEPT_MS = 600_000
MAX_RANGE_DAYS = 366
MAX_RANGE_DAYS_OF_ALL = 31
"""Without a symbol."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its headers, and no body for one that the caller has."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Encoded | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller wants, before a snapshot is chosen. Times None: not said."""

    resource: Resource
    equal: Mapping[str, str]
    symbol: str | None
    start_ns: int | None
    end_ns: int | None
    known_at_ns: int | None
    limit: int
    cursor: str | None = None
    width_ns: int = 1
    make: Make = select_rows
    is_paged: bool = True
    default_days: int = 1


class Pages:
    """Answers questions for rows. Threads may share it."""

    def __init__(self, rows: Rows, ring: KeyRing, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._rows, self._ring, self._clock = rows, ring, clock
        self._kept = _Kept()

    def use_keys(self, ring: KeyRing) -> None:
        """From now on seal and open with these keys."""
        self._ring = ring

    def read(self, request: Request, asked: Asked) -> Answer:
        """One page.

        Raises: ProblemError, QueryTimeoutError, SnapshotGoneError, StoreUnavailableError,
        ConfigError.
        """
        form, now = choose_format(request.accept), now_ms(self._clock)
        print_of = fingerprint(request.caller, request.route, request.parameters)
        if asked.cursor is None:
            state = self._rows.current(asked.resource)
            selection = _begin(asked, state)
        else:
            cursor = unseal(asked.cursor, self._ring, print_of, now)
            state = self._rows.pinned(asked.resource, cursor.snapshot)
            selection = replace(
                _selection(asked, cursor.start_ns, cursor.end_ns), after=cursor.after
            )
        tag = _tag(print_of, state, selection, form)
        if _has(request.if_none_match, tag):
            return Answer(304, _headers(tag, state))
        kept = self._kept.get(tag, now)
        if kept is None:
            kept = self._make(asked, selection, state, form, print_of)
            self._kept.put(tag, kept, now)
        return kept

    def _make(
        self, asked: Asked, selection: Selection, state: State, form: Format, print_of: str
    ) -> Answer:
        more = replace(selection, limit=selection.limit + 1)
        rows = self._rows.select(more, state, asked.make)
        keep = min(selection.limit, rows.num_rows)
        while True:
            cursor = None
            if asked.is_paged and 0 < keep < rows.num_rows:
                cursor = self._seal(selection, state, print_of, rows, keep)
            content = encode_rows(rows.slice(0, keep), form, cursor, as_of(state))
            if content.size <= MAX_ANSWER_BYTES or keep <= 1:
                break
            keep = max(1, int(keep * 0.9 * MAX_ANSWER_BYTES / content.size))
        headers = _headers(_tag(print_of, state, selection, form), state)
        if cursor is not None:
            headers["X-Next-Cursor"] = cursor
        return Answer(200, headers, content)

    def _seal(
        self, selection: Selection, state: State, print_of: str, rows: pa.Table, keep: int
    ) -> str:
        last = tuple(rows[name][keep - 1].as_py() for name in selection.resource.key)
        expires = now_ms(self._clock) + TTL_MS
        start, end = selection.start_ns, selection.end_ns
        return seal(Cursor(print_of, state.snapshot, start, end, last, expires), self._ring)


class _Kept:
    """Answers that were given lately, as many as fit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, tuple[int, Answer]] = OrderedDict()
        self._bytes = 0

    def get(self, tag: str, now: int) -> Answer | None:
        with self._lock:
            found = self._answers.get(tag)
            if found is None or now - found[0] > KEPT_MS:
                return None
            self._answers.move_to_end(tag)
            return found[1]

    def put(self, tag: str, answer: Answer, now: int) -> None:
        with self._lock:
            if tag in self._answers:
                self._bytes -= _size(self._answers.pop(tag)[1])
            self._answers[tag] = (now, answer)
            self._bytes += _size(answer)
            while self._bytes > KEPT_BYTES:
                _, (_, oldest) = self._answers.popitem(last=False)
                self._bytes -= _size(oldest)


def as_of(state: State) -> dict[str, Any]:
    """What an answer was read from; the snapshot as text, for readers whose numbers are doubles."""
    return {
        "table": state.table,
        "snapshot": str(state.snapshot),
        "committed_at": format_time(state.committed_ms * 1_000_000),
    }


def _begin(asked: Asked, state: State) -> Selection:
    """The range of a first page; what was not said depends on the snapshot alone.

    Raises: ProblemError: 422 for a range that is empty or too wide.
    """
    until = state.committed_ms * 1_000_000 + DAY_NS  # no event lies further in the future
    end = until if asked.end_ns is None else asked.end_ns
    start = asked.start_ns
    if start is None:
        days = asked.default_days + (1 if asked.end_ns is None else 0)
        start = end - days * DAY_NS
    if asked.end_ns is None and end <= start:
        end = start + 1
    if start >= end:
        raise ProblemError(422, "empty-range", "`from` must be before `to`, which is left out.")
    most = MAX_RANGE_DAYS if asked.symbol is not None else MAX_RANGE_DAYS_OF_ALL
    if end - start > most * DAY_NS:
        raise ProblemError(
            422,
            "range-too-wide",
            f"Ask for at most {most} days at once"
            + ("." if asked.symbol is not None else ", or name a symbol."),
        )
    start -= start % asked.width_ns  # whole bars
    end = -(-end // asked.width_ns) * asked.width_ns
    return _selection(asked, start, end)


def _selection(asked: Asked, start_ns: int, end_ns: int) -> Selection:
    return Selection(
        asked.resource,
        start_ns,
        end_ns,
        asked.equal,
        asked.symbol,
        asked.known_at_ns,
        limit=asked.limit,
    )


def _tag(print_of: str, state: State, selection: Selection, form: Format) -> str:
    page = [
        print_of,
        state.table,
        state.snapshot,
        selection.start_ns,
        selection.end_ns,
        selection.after,
        selection.limit,
        form,
    ]
    return f'"{hashlib.sha256(orjson.dumps(page)).hexdigest()[:32]}"'


def _has(if_none_match: str | None, tag: str) -> bool:
    known = {part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")}
    return tag in known


def _headers(tag: str, state: State) -> dict[str, str]:
    return {"ETag": tag, "X-As-Of": orjson.dumps(as_of(state)).decode()}


def _size(answer: Answer) -> int:
    return answer.content.size if answer.content else 0
