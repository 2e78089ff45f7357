"""The columnar way through a slice: which templates are tried, and what their slots become.

Known templates first, the most used ones in front; then new ones are learned from examples among
the messages that are left, as long as that pays. What matches nothing, or holds a value that its
kind refuses, is handed back to be read strictly. Nothing is rejected here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.decode.lines import PAD, Lines, find_bytes
from stream.decode.message import ABSENT, ARRIVAL, Layout, Path, Reader, Value, resolve, walk
from stream.decode.plan import Plan
from stream.decode.rows import NULL, Block, Data, Text, spans_to_array
from stream.decode.template import Matched, Template, learn_template, match_template
from stream.decode.value_columns import DAY_NS, Texts, is_plain_scalar
from stream.decode.windows import Spans
from stream.feeds.contract import Same

CHUNK_LINES = 25_000
"""Messages matched at once: their windows then stay in the processor's cache."""
MIN_LINES = 48
"""Fewer unmatched messages than this are read strictly: a template would cost more."""
_SAMPLES = 8
_MAX_LEARNED = 16
_FEW = 64


@dataclass(frozen=True, slots=True)
class Columnar:
    """What the columnar way read, and which messages it did not."""

    blocks: list[Block]
    ignored: dict[str, int]
    left: np.ndarray


def read_columnar(
    plan: Plan, lines: Lines, arrival_ns: np.ndarray, todo: np.ndarray, made: bytearray
) -> Columnar:
    """Read as many of the messages `todo` as match a template."""
    doubtful = find_doubtful(lines)
    left = todo if doubtful is None else todo[~doubtful[todo]]
    aside = None if doubtful is None else todo[doubtful[todo]]
    texts = Texts(lines.buffer, plan.constants.places, lines.payload_end + PAD, made)
    pass_ = _Pass(plan, lines, arrival_ns, texts)
    for template in plan.templates.known():
        if len(left) >= MIN_LINES:
            left = pass_.apply(template, left)
    left = pass_.learn(left)
    if aside is not None:
        left = np.sort(np.concatenate([left, aside]))
    return Columnar(pass_.blocks, pass_.ignored, left)


class _Pass:
    """One slice's way through the templates."""

    def __init__(self, plan: Plan, lines: Lines, arrival_ns: np.ndarray, texts: Texts) -> None:
        self.plan = plan
        self.lines = lines
        self.arrival_ns = arrival_ns
        self.texts = texts
        self.blocks: list[Block] = []
        self.ignored: dict[str, int] = {}
        self.tried: set[Template] = set()

    def apply(self, template: Template, left: np.ndarray) -> np.ndarray:
        """Read the messages that match; return the others."""
        self.tried.add(template)
        remaining = []
        for at in range(0, len(left), CHUNK_LINES):
            chunk = left[at : at + CHUNK_LINES]
            done = self._apply_chunk(template, chunk)
            if len(done) != len(chunk):
                is_left = np.ones(len(chunk), bool)
                is_left[np.searchsorted(chunk, done)] = False
                remaining.append(chunk[is_left])
        after = np.concatenate(remaining) if remaining else left[:0]
        self.plan.templates.used(template, len(left) - len(after))
        return after

    def learn(self, left: np.ndarray) -> np.ndarray:
        """Learn templates from what is left until too little is left or it does not pay."""
        templates = self.plan.templates
        is_few = len(left) < len(self.lines) // 32
        if len(left) < MIN_LINES or (is_few and not templates.may_learn()):
            return left
        before = len(left)
        left = self._learn(left)
        templates.note_learning(paid=before - len(left) >= MIN_LINES // 2)
        return left

    def _learn(self, left: np.ndarray) -> np.ndarray:
        for _ in range(_MAX_LEARNED):
            if len(left) < MIN_LINES:
                return left
            new = self._sample(left)
            if not new:
                return left
            before = len(left)
            for template in new:
                left = self.apply(template, left)
            if before - len(left) < max(MIN_LINES // 2, before // 16):
                return left
        return left

    def _sample(self, left: np.ndarray) -> list[Template]:
        """Templates of a few messages spread over what is left, the most frequent first."""
        places = np.linspace(0, len(left) - 1, _SAMPLES).astype(np.int64)
        found: Counter[Template] = Counter()
        for line in left[places].tolist():
            template = learn_template(self.plan.grammar, self.lines.raw(line))
            if template is not None and template not in self.tried:
                found[template] += 1
        return [template for template, _ in found.most_common()]

    def _apply_chunk(self, template: Template, chunk: np.ndarray) -> np.ndarray:
        lines = self.lines
        matched = match_template(template, lines.buffer, lines.start, lines.end, chunk)
        if not matched.alive.any():
            return chunk[:0]
        if isinstance(template.verdict, str):
            good = _check_unread(template, matched, set())
            good = matched.alive if good is None else matched.alive & good
            done: np.ndarray = matched.lines[good]
            if len(done):
                name = template.verdict
                self.ignored[name] = self.ignored.get(name, 0) + len(done)
            return done
        return self._read(template, template.verdict, matched)

    def _read(self, template: Template, layout: Layout, matched: Matched) -> np.ndarray:
        arrival = self.arrival_ns[self.lines.record_no[matched.lines]]
        reading = _Reading(template, layout, matched, arrival, self.texts)
        items = [reading.read_item(item) for item in range(template.items)]
        reading.check(_check_unread(template, matched, reading.read))
        good, lines = reading.good, matched.lines
        if not good.all():
            lines = lines[good]
        for item, data in enumerate(items):
            block = Block(matched.lines, np.full(len(matched.lines), item, np.int64), data)
            self.blocks.append(block if good.all() else block.take(np.flatnonzero(good)))
        return lines


class _Reading:
    """The values of a template's matched messages, and which messages are good so far."""

    def __init__(
        self,
        template: Template,
        layout: Layout,
        matched: Matched,
        arrival_ns: np.ndarray,
        texts: Texts,
    ) -> None:
        self.layout = layout
        self.example = template.example
        self.matched = matched
        self.arrival_ns = arrival_ns
        self.texts = texts
        self.count = len(matched.lines)
        self.good = matched.alive.copy()
        self.read: set[int] = set()
        self._places = {slot.path: number for number, slot in enumerate(template.slots)}
        self._keys: list[pa.Array] = []

    def check(self, good: np.ndarray | None) -> None:
        """Messages that are not good here are read strictly."""
        if good is not None:
            self.good &= good

    def read_item(self, item: int) -> dict[str, Data]:
        """The columns of one item of every message."""
        data: dict[str, Data] = {}
        base = (*self.layout.rows, str(item)) if self.layout.rows else ()
        for reader in self.layout.readers:
            match reader.kind.reads:
                case "none":
                    data[reader.column] = self._derive(reader, data)
                case "parts":
                    data[reader.column] = self._content_key(reader, base)
                case _:
                    path = reader.path if reader.from_root else base + reader.path
                    data[reader.column] = self._value(reader, path, data)
        return data

    def _value(self, reader: Reader, path: Path, data: dict[str, Data]) -> Data:
        spans = self._slot(path)
        if spans is not None:
            assert reader.kind.columns is not None
            values, good = reader.kind.columns(spans, reader.options, self.texts)
            self.check(good)
            return values
        fixed = walk(self.example, path)
        if fixed is not ABSENT and fixed is not None:
            return self._made_constant(reader.kind.parse(fixed, reader.options))
        if isinstance(reader.default, Same):
            same = reader.default.column
            return self.arrival_ns if same == ARRIVAL else data[same]
        if reader.default is None and reader.is_text:
            nulls = np.full(self.count, NULL)
            return Text(nulls, nulls)
        return self._constant(reader.default)

    def _slot(self, path: Path) -> Spans | None:
        number = self._places.get(resolve(self.example, path))
        if number is None:
            return None
        self.read.add(number)
        return self.matched.slots[number]

    def _constant(self, value: Value) -> Data:
        if isinstance(value, str):
            start, end = self.texts.constant(value)
            return Text(np.full(self.count, start), np.full(self.count, end))
        return np.full(self.count, NULL if value is None else value)

    def _made_constant(self, value: Value) -> Data:
        if not isinstance(value, str):
            return self._constant(value)
        text = self.texts.append(pa.array([value]))
        zeros = np.zeros(self.count, np.int64)
        return Text(text.start[zeros], text.end[zeros])

    def _derive(self, reader: Reader, data: dict[str, Data]) -> Data:
        options = reader.options
        match reader.name:
            case "const":
                return self._constant(options["value"])
            case "arrival":
                return self.arrival_ns
            case "same":
                return data[options["as"]]
            case "row_key":
                parts = [pa.array(data[name]).cast(pa.string()) for name in options["of"]]
                return self.texts.append(pc.binary_join_element_wise(*parts, "-"))
        ns = data[options["of"]]
        assert isinstance(ns, np.ndarray)
        return ns // DAY_NS

    def _content_key(self, reader: Reader, base: Path) -> Data:
        """Strings of the row joined; content repeated within a message is numbered strictly."""
        parts = []
        for part in reader.parts:
            spans = self._slot(base + part)
            if spans is None:
                self.good[:] = False
                return self._constant("")
            self.check(spans.length > 0)
            parts.append(spans_to_array(Text(spans.start, spans.end), self.texts.buffer))
        key = pc.binary_join_element_wise(*parts, "-")
        for other in self._keys:
            self.check(~pc.equal(key, other).to_numpy(zero_copy_only=False))
        self._keys.append(key)
        return self.texts.append(key)


def _check_unread(template: Template, matched: Matched, read: set[int]) -> np.ndarray | None:
    """Which messages hold a JSON value in every slot that nothing read."""
    good: np.ndarray | None = None
    for number, slot in enumerate(template.slots):
        if number not in read and not slot.is_string:
            plain = is_plain_scalar(matched.slots[number])
            good = plain if good is None else good & plain
    return good


def find_doubtful(lines: Lines) -> np.ndarray | None:
    """Messages with a backslash, a control character or invalid UTF-8; None if there are none."""
    payload = lines.buffer[PAD : lines.payload_end]
    at = [_line_of(lines, lines.controls)]
    if payload.max(initial=0) >= 128:
        at.append(_invalid_lines(lines, payload))
    if lines.data.find(b"\\", PAD, lines.payload_end) >= 0:
        at.append(_line_of(lines, find_bytes(payload, np.equal, ord("\\")) + PAD))
    found = np.concatenate(at)
    if not len(found):
        return None
    doubtful = np.zeros(len(lines), bool)
    doubtful[found] = True
    return doubtful


def _line_of(lines: Lines, at: np.ndarray) -> np.ndarray:
    """The messages that hold these positions; positions between messages are left out."""
    if not len(at) or not len(lines):
        return np.empty(0, np.int64)
    line = np.searchsorted(lines.start, at, side="right") - 1
    inside = (line >= 0) & (at < lines.end[line])
    return line[inside]


def _invalid_lines(lines: Lines, payload: np.ndarray) -> np.ndarray:
    """Messages that are not UTF-8, among those with any byte above 127."""
    high = find_bytes(payload, np.greater_equal, 128) + PAD
    few = len(high) < len(lines)
    suspects = np.unique(_line_of(lines, high)) if few else np.arange(len(lines))
    return np.array(list(_invalid_among(lines, suspects)), np.int64)


def _invalid_among(lines: Lines, suspects: np.ndarray) -> Iterator[int]:
    """Check many at once with Arrow; halve where some are invalid."""
    if len(suspects) > _FEW:
        spans = Text(lines.start[suspects], lines.end[suspects])
        try:
            spans_to_array(spans, lines.buffer, pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            half = len(suspects) // 2
            yield from _invalid_among(lines, suspects[:half])
            yield from _invalid_among(lines, suspects[half:])
    else:
        yield from (i for i in suspects.tolist() if not _is_utf8(lines.raw(i)))


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
