"""Decode a slice: from record bytes to typed rows and rejects with reasons, nothing lost.

Nearly all messages of a slice share a few structures. Those are matched and read column by
column (`template`), without a Python object per message; a message that matches none, or in
which anything is doubtful, is read strictly on its own (`message`), which decides. The columnar
way may only accept, so one bad record costs its own time and nothing else. Pure: no I/O, no
clock; learned templates are kept between calls and never change a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stream.decode.learn import read_columnar
from stream.decode.lines import Lines, borrow_buffer, buffer_size, split_lines
from stream.decode.message import BadItem, Row, parse_json, read_message, recognise
from stream.decode.plan import Plan, plan_of
from stream.decode.rows import Block, Columns, block_of_rows, merge_blocks
from stream.errors import RecordRejected
from stream.feeds.contract import Contract, Rule

REJECT_SCHEMA = pa.schema(
    [
        pa.field("record_no", pa.int32(), nullable=False),
        pa.field("line_no", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of records holds.

    `rows`: the contract's columns, `record_no` and `line_no`, in message order. `rejects`:
    `REJECT_SCHEMA`, in message order; `raw` is the exact message, the whole payload for a record
    without any. `ignored`: messages that are no data, by name. `messages`: how many were seen; a
    record without a message counts as one. `rejected`: which of them (from 0, in order) have
    rejects, each once.
    """

    rows: pa.Table
    rejects: pa.Table
    ignored: dict[str, int]
    messages: int
    rejected: npt.NDArray[np.int64]


Reject = tuple[int, int, int, str, str, bytes]
"""record_no, line_no, item, reason, detail, raw"""


@dataclass(slots=True)
class _Found:
    """What was read so far, in any order."""

    blocks: list[Block] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    texts: bytearray = field(default_factory=bytearray)

    def ignore(self, name: str, count: int) -> None:
        self.ignored[name] = self.ignored.get(name, 0) + count


def decode_records(
    contract: Contract, records: pa.RecordBatch, *, strict_only: bool = False
) -> Decoded:
    """Decode a batch of records (`slices.RECORD_SCHEMA`).

    `strict_only` reads every message on its own: the reference that the columnar way must equal.
    Every message ends as rows, as rejects (one per bad item) or as a count in `ignored`.
    """
    plan = plan_of(contract)
    payloads, spare = records["payload"], plan.constants.blob
    with borrow_buffer(buffer_size(payloads, spare)) as data:
        lines = split_lines(payloads, data, spare)
        return _decode(plan, records, lines, strict_only=strict_only)


def _decode(plan: Plan, records: pa.RecordBatch, lines: Lines, *, strict_only: bool) -> Decoded:
    contract, arrival_ns, found = plan.contract, records["ts_arrival_ns"].to_numpy(), _Found()
    todo = _reject_outright(contract, records, lines, found)
    if not strict_only:
        columnar = read_columnar(plan, lines, arrival_ns, todo, found.texts)
        found.blocks += columnar.blocks
        found.ignored.update(columnar.ignored)
        todo = columnar.left
    _read_strictly(plan, lines, arrival_ns, todo, found)
    rows = _check_rules(contract, lines, arrival_ns, found)
    rejects = _reject_table(found.rejects)
    messages, rejected = len(lines) + len(lines.empty), _number_rejected(lines, rejects)
    return Decoded(rows, rejects, found.ignored, messages, rejected)


def _number_rejected(lines: Lines, rejects: pa.Table) -> npt.NDArray[np.int64]:
    """Numbers of the messages with rejects: the lines and the empty records before each."""
    if not rejects.num_rows:
        return np.empty(0, np.int64)
    record, line = (rejects[name].combine_chunks().to_numpy() for name in ("record_no", "line_no"))
    places = np.unique(record.astype(np.int64) << 32 | line)
    before = np.searchsorted(lines.record_no.astype(np.int64) << 32 | lines.line_no, places)
    return before + np.searchsorted(lines.empty, places >> 32)


def _reject_outright(
    contract: Contract, records: pa.RecordBatch, lines: Lines, found: _Found
) -> np.ndarray:
    """Reject what needs no reading; return the indices of the other messages."""
    for record in lines.empty.tolist():
        raw = records["payload"][record].as_py()
        found.rejects.append((record, 0, 0, "empty_payload", f"{len(raw)} bytes", raw))
    length = lines.end - lines.start
    is_long = length > contract.max_line_bytes
    if not is_long.any():
        return np.arange(len(lines))
    for i in np.flatnonzero(is_long).tolist():
        detail = f"{length[i]} bytes, at most {contract.max_line_bytes}"
        found.rejects.append(_reject(lines, i, 0, "line_too_long", detail))
    return np.flatnonzero(~is_long)


def _reject(lines: Lines, line: int, item: int, reason: str, detail: str) -> Reject:
    record_no, line_no = int(lines.record_no[line]), int(lines.line_no[line])
    if not detail.isascii():  # what was found may hold half a surrogate pair
        detail = detail.encode(errors="backslashreplace").decode()
    return record_no, line_no, item, reason, detail, lines.raw(line)


def _read_strictly(
    plan: Plan, lines: Lines, arrival_ns: np.ndarray, todo: np.ndarray, found: _Found
) -> None:
    places: list[tuple[int, int]] = []
    rows: list[Row] = []
    for line in todo.tolist():
        try:
            message = parse_json(lines.raw(line))
            verdict = recognise(plan.grammar, message)
            if isinstance(verdict, str):
                found.ignore(verdict, 1)
                continue
            arrival = int(arrival_ns[lines.record_no[line]])
            items = read_message(verdict, message, arrival)
        except RecordRejected as error:
            found.rejects.append(_reject(lines, line, 0, error.reason, error.detail))
            continue
        for number, item in enumerate(items):
            if isinstance(item, BadItem):
                found.rejects.append(_reject(lines, line, number, item.reason, item.detail))
            else:
                places.append((line, number))
                rows.append(item)
    if rows:
        base = len(lines.buffer)
        found.blocks.append(block_of_rows(plan.contract.columns, places, rows, base, found.texts))


def _check_rules(
    contract: Contract, lines: Lines, arrival_ns: np.ndarray, found: _Found
) -> pa.Table:
    """Merge all rows, take out those that break a rule, and build the table."""
    block = merge_blocks(found.blocks, contract.columns)
    buffer = lines.extend(found.texts) if found.texts else lines.buffer
    record_no = lines.record_no[block.line]
    columns = Columns(block, contract.columns, buffer, arrival_ns[record_no])
    is_bad = np.zeros(len(block.line), bool)
    for rule in (*contract.rules, _future_rule(contract)):
        mask = _mask(rule.is_bad(columns)) & ~is_bad
        if not mask.any():
            continue
        is_bad |= mask
        for row in np.flatnonzero(mask).tolist():
            line, item = int(block.line[row]), int(block.item[row])
            found.rejects.append(
                _reject(lines, line, item, rule.reason, f"item {item}: {rule.doc}")
            )
    if is_bad.any():
        block = block.take(np.flatnonzero(~is_bad))
        record_no = lines.record_no[block.line]
        columns = Columns(block, contract.columns, buffer, arrival_ns[record_no])
    arrays = [columns[column.name] for column in contract.columns]
    places = [pa.array(record_no), pa.array(lines.line_no[block.line])]
    return pa.Table.from_arrays([*arrays, *places], schema=rows_schema(contract))


def rows_schema(contract: Contract) -> pa.Schema:
    """Schema of `Decoded.rows`: the contract's columns and where each row came from."""
    return pa.schema(
        [
            *contract.row_schema,
            pa.field("record_no", pa.int32(), nullable=False),
            pa.field("line_no", pa.int32(), nullable=False),
        ]
    )


def _future_rule(contract: Contract) -> Rule:
    tolerance_ns = contract.future_tolerance_ms * 1_000_000

    def is_bad(rows: Mapping[str, pa.Array]) -> pa.Array:
        event = rows[contract.event_time].to_numpy()
        return pa.array(event - tolerance_ns > rows["ts_arrival_ns"].to_numpy())

    doc = f"{contract.event_time} at most {contract.future_tolerance_ms} ms after the arrival"
    return Rule("event_time_in_future", doc, is_bad)


def _mask(bad: pa.Array) -> np.ndarray:
    filled = bad.fill_null(False) if bad.null_count else bad
    mask: np.ndarray = filled.to_numpy(zero_copy_only=False)
    return mask


def _reject_table(rejects: list[Reject]) -> pa.Table:
    rejects.sort(key=lambda reject: reject[:3])
    columns = list(zip(*rejects, strict=True)) or [()] * 6
    del columns[2]
    arrays = [
        pa.array(values, kind.type) for values, kind in zip(columns, REJECT_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=REJECT_SCHEMA)
