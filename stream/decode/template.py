"""Structural templates: the bytes that messages of one structure share, and what lies between.

A template is learned from one message that was read strictly: literal bytes (punctuation, keys,
every value that decides what the message is) and slots (values). A message that equals the
literals outside its slots has the same structure and so the same verdict, whatever its slots
hold; slots that are read are checked by their value kind, the others for being one JSON value.
Messages with escapes or control characters never get here (`learn`). Not here: which templates
are tried (`learn`), what decides a message's meaning (`message`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream.decode.message import (
    ABSENT,
    Grammar,
    Layout,
    Path,
    Reader,
    parse_json,
    read_message,
    recognise,
    walk,
)
from stream.decode.windows import Spans, find_byte, gather, has_byte
from stream.errors import RecordRejected

_LITERAL_WORDS = 8
_SLOT_WORDS = 5

_TOKEN = re.compile(rb'[ \t\r]*(?:([{}\[\],:])|"([^"\\]*)"|([-0-9.eE+]+|true|false|null))')


@dataclass(frozen=True, slots=True)
class Slot:
    """A value between two literals."""

    path: Path
    is_string: bool
    size: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Template:
    """literals[0] slots[0] literals[1] ... literals[-1], and what such a message is.

    `verdict`: the name of an ignored message, or the layout to read it with; then `items` rows.
    `example` is the parsed message it was learned from: what lies in the literals is read there.
    """

    literals: tuple[bytes, ...]
    slots: tuple[Slot, ...]
    verdict: str | Layout = field(compare=False)
    items: int
    example: Any = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Matched:
    """Messages and the spans of their slots; only those that are `alive` equal the template."""

    lines: np.ndarray
    alive: np.ndarray
    slots: list[Spans]


def learn_template(grammar: Grammar, line: bytes) -> Template | None:
    """The template of a message, or None when it is rejected or must be read on its own."""
    if b"\\" in line:
        return None
    try:
        message = parse_json(line)
        verdict = recognise(grammar, message)
        if isinstance(verdict, Layout) and not _is_columnar(verdict, message):
            return None
    except RecordRejected:
        return None
    literals, slots = _cut(line, _fixed_paths(grammar))
    items = 0
    if isinstance(verdict, Layout):
        items = len(walk(message, verdict.rows)) if verdict.rows else 1
    return Template(tuple(literals), tuple(slots), verdict, items, message)


def _is_columnar(layout: Layout, message: Any) -> bool:
    """Whether every value has a columnar reader and the message itself is good."""
    if any(not isinstance(row, dict) for row in read_message(layout, message, 0)):
        return False
    items = walk(message, layout.rows) if layout.rows else [message]
    return all(_is_readable(reader, message, item) for item in items for reader in layout.readers)


def _is_readable(reader: Reader, message: Any, item: Any) -> bool:
    if reader.kind.reads in ("none", "parts") or reader.kind.columns is not None:
        return True
    return walk(message if reader.from_root else item, reader.path) in (ABSENT, None)


def _fixed_paths(grammar: Grammar) -> frozenset[Path]:
    """Paths whose values decide what a message is: part of the literals."""
    wheres = [where for _, where in grammar.ignored] + [one.where for one in grammar.layouts]
    return frozenset(path for where in wheres for path, allowed in where if allowed is not None)


def _cut(line: bytes, fixed: frozenset[Path]) -> tuple[Sequence[bytes], Sequence[Slot]]:
    """Divide a valid message into literals and slots."""
    literals: list[bytes] = []
    slots: list[Slot] = []
    done = 0
    for path, start, end, is_string in _values(line):
        if path in fixed or line[start:end] == b"null":
            continue  # null decides between a value and its default: part of the structure
        literals.append(line[done:start])
        slots.append(Slot(path, is_string, end - start))
        done = end
    literals.append(line[done:])
    return literals, slots


def _values(line: bytes) -> Iterator[tuple[Path, int, int, bool]]:
    """Path and span (without quotes) of every scalar value of a valid message without escapes."""
    path: list[str] = []
    lists: list[bool] = []
    is_key = False
    for token in _TOKEN.finditer(line):
        mark, text = token[1], token[2]
        if mark is not None:
            if mark in b"{[":
                lists.append(mark == b"[")
                path.append("0")
                is_key = mark == b"{"
            elif mark in b"}]":
                lists.pop()
                path.pop()
            elif mark == b",":
                is_key = not lists[-1]
                if lists[-1]:
                    path[-1] = str(int(path[-1]) + 1)
            else:
                is_key = False
        elif is_key:
            path[-1] = text.decode()
        else:
            start, end = token.span(2 if text is not None else 3)
            yield tuple(path), start, end, text is not None


def match_template(
    template: Template, buffer: np.ndarray, start: np.ndarray, end: np.ndarray, lines: np.ndarray
) -> Matched:
    """The messages among `lines` (indices into `start`, `end`) that equal the literals."""
    cursor = _Cursor(buffer, start[lines], end[lines], lines)
    for number, slot in enumerate(template.slots):
        if not cursor.pass_literal(template.literals[number], slot):
            break
        cursor.pass_slot(slot, template.literals[number + 1][0])
    else:
        cursor.pass_literal(template.literals[-1], None)
        cursor.keep(cursor.at == cursor.end)
    cursor.cover_dead()
    return Matched(cursor.lines, cursor.alive, cursor.slots)


class _Cursor:
    """Moves through many messages at once; drops those that differ."""

    def __init__(
        self, buffer: np.ndarray, start: np.ndarray, end: np.ndarray, lines: np.ndarray
    ) -> None:
        self.buffer = buffer
        self.at = start
        self.end = end
        self.lines = lines
        self.alive = np.ones(len(lines), bool)
        self.slots: list[Spans] = []
        self._ahead: np.ndarray | None = None

    def keep(self, mask: np.ndarray) -> None:
        """Only these messages still equal the template.

        A few dead ones are carried along, held at their line's end, because dropping them costs
        a copy of everything found so far; many are dropped.
        """
        if mask.all():
            return
        self.alive &= mask
        if 8 * np.count_nonzero(self.alive) >= 7 * len(mask):
            np.minimum(self.at, self.end, out=self.at)
            return
        alive = np.flatnonzero(self.alive)
        self.at, self.end, self.lines = self.at[alive], self.end[alive], self.lines[alive]
        self.alive = np.ones(len(alive), bool)
        self.slots = [slot.take(alive) for slot in self.slots]
        if self._ahead is not None:
            self._ahead = self._ahead[:, alive]

    def cover_dead(self) -> None:
        """Give dead messages a live one's values: odd ones would cost the others their pace."""
        dead = np.flatnonzero(~self.alive)
        if len(dead) and len(dead) < len(self.alive):
            model = int(np.argmax(self.alive))
            for slot in self.slots:
                slot.copy_one(model, dead)

    def pass_literal(self, literal: bytes, slot: Slot | None) -> bool:
        """Compare the literal; fetch the slot's first windows with it. False: none is left.

        The literal is read so that it ends at a window's end: the slot then begins at one.
        """
        pieces = [literal[i : i + 8 * _LITERAL_WORDS] for i in range(0, len(literal), 64)]
        for number, piece in enumerate(pieces):
            words = (len(piece) + 7) // 8
            before = 8 * words - len(piece)
            ahead = 0
            if slot is not None and number == len(pieces) - 1:
                ahead = min((slot.size + 8) // 8, _SLOT_WORDS)
            rows = gather(self.buffer, self.at - before, words + ahead)
            # By window, not by message: what follows works on one window of all messages.
            self._ahead = np.ascontiguousarray(rows[:, words:].T) if ahead else None
            self.at = self.at + len(piece)
            self.keep(_equals(rows, piece, before) & (self.at <= self.end))
            if not len(self.at):
                return False
        return True

    def pass_slot(self, slot: Slot, terminator: int) -> None:
        """Find the value's end: the closing quote, or what follows a number."""
        ahead = self._ahead
        assert ahead is not None
        if _is_fixed(ahead, slot, terminator, self.alive):
            length = np.full(len(self.at), slot.size)
        else:
            length = self._find_end(ahead, terminator)
        self.slots.append(Spans(self.buffer, self.at, length, ahead))
        self.at = self.at + length
        self._ahead = None
        self.keep(self.at < self.end)

    def _find_end(self, ahead: np.ndarray, terminator: int) -> np.ndarray:
        known = len(ahead)
        length = find_byte(ahead[0], terminator)
        for j in range(1, known):
            missing = length == 8 * j
            if missing.all():
                length += find_byte(ahead[j], terminator)
            elif missing.any():
                length += np.where(missing, find_byte(ahead[j], terminator), 0)
        if (length == 8 * known).any():
            self._find_far(length, known, terminator)
        return length

    def _find_far(self, length: np.ndarray, known: int, terminator: int) -> None:
        """Go on, window by window, in the messages whose value is longer than the example's."""
        far = np.flatnonzero(length == 8 * known)
        while len(far):
            at = self.at[far] + length[far]
            inside = at < self.end[far]
            far, at = far[inside], at[inside]
            step = find_byte(gather(self.buffer, at, 1)[:, 0], terminator)
            length[far] += step
            far = far[step == 8]


def _is_fixed(ahead: np.ndarray, slot: Slot, terminator: int, alive: np.ndarray) -> bool:
    """Whether the values of all messages that are alive are as long as the example's.

    Text must hold no earlier quote. A number need not be searched: what follows it is no digit,
    so a value that went on would be refused when it is read.
    """
    word, place = divmod(slot.size, 8)
    if word >= len(ahead):
        return False
    follows = (ahead[word] >> np.uint64(8 * place)) & np.uint64(0xFF)
    fits = follows == terminator
    if slot.is_string and fits[alive].all():
        fits &= find_byte(ahead[word], terminator) == place
        for window in ahead[:word]:
            fits &= ~has_byte(window, terminator)
    return bool(fits.all() or fits[alive].all())


def _equals(rows: np.ndarray, literal: bytes, before: int) -> np.ndarray:
    """Which rows begin, after `before` foreign bytes, with the literal."""
    words = (len(literal) + 7) // 8
    wanted = np.frombuffer(bytes(before) + literal, "<u8")
    mask = np.uint64((0xFFFFFFFFFFFFFFFF << (8 * before)) & 0xFFFFFFFFFFFFFFFF)
    equal: np.ndarray = (rows[:, 0] & mask) == wanted[0]
    for j in range(1, words):
        equal &= rows[:, j] == wanted[j]
    return equal
