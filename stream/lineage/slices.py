"""One slice, back to its bytes and forward to what Silver, quarantine and bars hold of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stream.clock import to_utc
from stream.feeds.contract import Contract
from stream.lake.entries import Entry
from stream.lake.history import SliceState
from stream.lake.layout import ExtractPartKey
from stream.lineage.fates import Fate, Message, count_fates, read_fates
from stream.lineage.feed_ledger import FeedLedger
from stream.lineage.scope import Scope
from stream.lineage.silver import SliceRows, plan_files, query_files
from stream.lineage.source import Source, decode_now, open_source
from stream.lineage.tree import Link
from stream.prove.objects import check_quarantine
from stream.quarantine import read_rejects
from stream.sources.extract import read_manifest
from stream.sources.ledger import is_extract_part

SHOWN_BYTES = 300


@dataclass(frozen=True, slots=True)
class SliceTrace:
    """What was found of a slice: its rows in Silver now, its records, what became of them.

    `is_all`: of all its records, not of one.
    """

    state: SliceState
    rows: pa.Table
    source: Source | None
    messages: list[Message]
    is_all: bool = True


def slice_link(state: SliceState) -> Link:
    """A slice as the ledger knows it."""
    record = state.record
    facts: dict[str, Any] = {"feed": state.feed, "records": record.rows}
    if record.rows:
        first, last = (moment(ns) for ns in record.arrival_ns)
        facts |= {"messages": record.messages, "bytes": record.payload_bytes}
        facts |= {"arrived": first if first == last else f"{first} to {last}"}
    else:
        facts["says"] = "the end of its shard: no records"
    return Link("slice", record.slice_id, facts, "verified", "in the ledger's chain")


def bronze_link(scope: Scope, state: SliceState) -> tuple[Link, Source | None]:
    """Where a slice's records are kept, hashed and recounted, and where they came from."""
    record = state.record
    if record.bronze is None:
        return Link("stream shard", str(record.shard), {"position": record.last}), None
    is_part = is_extract_part(record.bronze.path)
    before = len(scope.broken)
    source = open_source(scope, record)
    facts: dict[str, Any] = {"bytes": record.bronze.bytes, "sha256": record.bronze.sha256}
    link = Link("extract part" if is_part else "Bronze object", record.bronze.path, facts)
    if source is None:
        link.judge(is_good=False, says=_last_found(scope, before))
    else:
        what = "hash, records and sequence numbers equal the ledger's"
        link.judge(is_good=len(scope.broken) == before, says=what)
    link.add(_origin_link(scope, state) if not is_part else _manifest_link(scope, state))
    return link, source


def _last_found(scope: Scope, before: int) -> str:
    new = scope.broken[before:]
    return f"{new[0].kind}: {new[0].found}" if new else "not readable"


def _origin_link(scope: Scope, state: SliceState) -> Link:
    record = state.record
    facts = {"first": record.first, "last": record.last, "after": record.prev or "its start"}
    link = Link("stream shard", str(record.shard), facts, "stated", "as the stream numbered them")
    parents = scope.ledger(state.feed).entries[state.number].parents.get(str(record.shard))
    if parents:
        link.facts["parents"] = ", ".join(parents)
    return link


def _manifest_link(scope: Scope, state: SliceState) -> Link:
    assert state.record.bronze is not None
    key = ExtractPartKey.parse(state.record.bronze.path)
    manifest = read_manifest(scope.store, key.source, key.run_id)
    if manifest is None:
        link = Link("extract", key.run_id, {"source": key.source})
        scope.break_link(
            "manifest_missing", key.run_id, "the extract's manifest", "none",
            "Restore it from the bucket's versions; its parts lie under the same run_id.",
        )  # fmt: skip
        return link.judge(is_good=False, says="its manifest is gone")
    part = next((p for p in manifest.parts if p.path == state.record.bronze.path), None)
    facts: dict[str, Any] = {
        "source": manifest.source,
        "dataset": manifest.dataset,
        "run_id": manifest.run_id,
        "days": f"{manifest.first_day} to {manifest.last_day}" if manifest.first_day else None,
        "request": ", ".join(f"{k}={v}" for k, v in part.request.items()) if part else None,
    }
    link = Link("extract", manifest.path, {k: v for k, v in facts.items() if v})
    return link.judge(is_good=part is not None, says="names the part")


def look_at(
    scope: Scope,
    contract: Contract,
    state: SliceState,
    rows: pa.Table,
    source: Source | None,
    *,
    is_whole: bool,
    sequence_numbers: Collection[str] | None = None,
) -> SliceTrace:
    """What became of a slice's messages (only of these records, if given); nothing is said of them
    unless `is_whole`: all files with its rows could be read.
    """
    if source is None or not is_whole:
        return SliceTrace(state, rows, source, [])
    numbers = source.numbers(None if sequence_numbers is None else set(sequence_numbers))
    now = decode_now(contract, scope.mask(contract), source, numbers)
    rejects = _rejects(scope, state)
    if rejects is None:
        return SliceTrace(state, rows, source, [])
    landed = frozenset((record, line) for _, record, line in state.landed)
    silver = rows.select([*now.compared, "sequence_number", "line_no", "path"]).to_pylist()
    messages = read_fates(source, numbers, now, silver=silver, quarantined=rejects, landed=landed)
    if sequence_numbers is None:
        _check_messages(scope, contract, state, messages)
    return SliceTrace(state, rows, source, messages, is_all=sequence_numbers is None)


def _rejects(scope: Scope, state: SliceState) -> list[dict[str, Any]] | None:
    """The rows of a slice's quarantine; None if its object is broken, which was named."""
    if state.record.quarantine is None:
        return []
    found = check_quarantine(scope.store, state.record)
    scope.broken.extend(found.differences)
    scope.reads.bytes_hashed += found.size
    if found.data is None:
        return None
    rows: list[dict[str, Any]] = read_rejects(found.data).to_pylist()
    return rows


def _check_messages(
    scope: Scope,
    contract: Contract,
    state: SliceState,
    messages: Sequence[Message],
) -> None:
    """The fates of a whole slice against the ledger's counts."""
    counts = count_fates(messages)
    record, redriven = state.record, state.redriven
    expected: dict[str, int] = {
        "messages": record.messages,
        "duplicate": record.duplicates + sum(r.duplicates for r in redriven),
        "ignored": sum(record.ignored.values()) + sum(r.ignored for r in redriven),
    }
    found = {"messages": len(messages), **{str(kind): n for kind, n in counts.items()}}
    differing = [name for name, count in expected.items() if found.get(name, 0) != count]
    if state.dropped or not (differing or counts["undecided"]):
        return
    scope.break_link(
        "decoder_differs",
        record.slice_id,
        ", ".join(f"{count} {name}" for name, count in expected.items()),
        ", ".join(f"{count} {name}" for name, count in found.items()) + " as decoded now",
        f"If the decoder was fixed: `headrace redrive {contract.feed}` lands what it accepts now, "
        "`headrace replay` makes the slice anew. If not, it is not deterministic.",
    )


def commit_links(ledger: FeedLedger, state: SliceState) -> list[Link]:
    """The commits that say something of a slice, oldest first."""
    return [_commit_link(entry) for entry in ledger.events(state.record.slice_id)]


def _commit_link(entry: Entry) -> Link:
    facts: dict[str, Any] = {"kind": entry.kind, "committed": moment(entry.committed_ms * 10**6)}
    for landed in entry.redriven:
        facts["landed"] = f"{landed.silver_rows} rows of {landed.messages} quarantined messages"
    if entry.dropped:
        facts["dropped"] = f"{sum(entry.dropped.values())} rows (retention)"
    name = f"{entry.feed}#{entry.number}"
    return Link("commit", name, facts, "verified", "its hash is its name")


def file_links(found: SliceRows, slice_id: str, what: str = "rows") -> list[Link]:
    """The files that hold rows of a slice now. `what`: which of them were counted."""
    links = []
    for file in found.files:
        count = file.rows.get(slice_id, 0)
        if not count and file.is_good:
            continue
        link = Link("Silver file", file.path, {what: count, "written by": file.origin})
        links.append(link.judge(is_good=file.is_good, says=file.says))
    return links


def message_link(scope: Scope, contract: Contract, trace: SliceTrace) -> Link:
    """What became of the messages: counts, and the first of each that are no rows of Silver."""
    counts = count_fates(trace.messages)
    ledger = trace.state.record
    facts: dict[str, Any] = {"messages": len(trace.messages)}
    facts |= {str(kind): count for kind, count in counts.items()}
    if redriven := sum(message.is_redriven for message in trace.messages):
        facts["redriven"] = redriven
    link = Link("messages", "decoded again", facts)
    is_good = not counts["undecided"] and (
        len(trace.messages) == ledger.messages or len(trace.messages) < ledger.messages
    )
    link.judge(is_good=is_good, says="each found once" if is_good else "the decoder differs")
    odd = [
        (message, fate)
        for message in trace.messages
        for fate in message.fates
        if fate.kind != "silver" or message.is_redriven
    ]
    for message, fate in odd[: scope.options.cap(len(odd))]:
        link.add(fate_link(scope, contract, message, fate))
    if len(odd) > len(link.links):
        link.add(more_link(len(odd) - len(link.links), "that are no plain rows"))
    return link


def fate_link(scope: Scope, contract: Contract, message: Message, fate: Fate) -> Link:
    """One message, or one of its rows."""
    name = f"record {message.sequence_number} line {message.line_no}"
    facts: dict[str, Any] = {}
    if fate.row is not None:
        facts["key"] = ", ".join(f"{c}={fate.row.get(c)}" for c in contract.key)
    if fate.path:
        facts["file"] = fate.path
    if message.is_redriven:
        facts["redriven"] = True
    facts["bytes"] = shown_bytes(scope, contract, message.raw)
    state = "broken" if fate.kind == "undecided" else "verified"
    return Link(str(fate.kind), name, facts, state, fate.says)  # type: ignore[arg-type]


def quarantine_link(scope: Scope, state: SliceState) -> Link | None:
    """The object with a slice's rejects."""
    record = state.record
    if record.quarantine is None:
        return None
    facts: dict[str, Any] = {"rejected": record.quarantine.rows, **dict(record.rejected)}
    if state.landed:
        facts["redriven"] = len(state.landed)
    link = Link("quarantine", record.quarantine.path, facts)
    is_good = record.quarantine.path not in {item.where for item in scope.broken}
    return link.judge(is_good=is_good, says="hash equals the ledger's" if is_good else "see below")


def find_originals(
    scope: Scope, contract: Contract, ledger: FeedLedger, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any] | None]:
    """Of duplicates, the row that Silver holds with the same key and event time."""
    found: list[dict[str, Any] | None] = []
    for row in rows:
        at_us = row[contract.event_time] // 1000
        paths = plan_files(scope, ledger.table, (at_us, at_us), None)
        where = " AND ".join(f'"{name}" = ?' for name in contract.key)
        answer = query_files(
            scope,
            ledger.table,
            paths,
            lambda source, where=where: (  # type: ignore[misc]
                f"SELECT slice_id, sequence_number, line_no, filename FROM {source} "  # noqa: S608  # nosec B608: names of the contract
                f"WHERE {where} ORDER BY ts_arrival_ns LIMIT 1"
            ),
            [row[name] for name in contract.key],
        ).to_pylist()
        found.append(answer[0] if answer else None)
    return found


def shown_bytes(scope: Scope, contract: Contract, raw: bytes) -> str:
    """Source bytes as people may see them: escaped, cut, or hidden."""
    if scope.hides(contract):
        return f"{len(raw)} bytes, hidden: {contract.feed} holds personal data"
    text = raw[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    more = f" … {len(raw)} bytes" if len(raw) > SHOWN_BYTES else ""
    return escaped(text) + more


def escaped(text: str) -> str:
    r"""A text in one line that no terminal obeys.

    >>> escaped("a\tb")
    'a\\tb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def more_link(count: int, what: str) -> Link:
    """What was not shown."""
    return Link("more", f"{count:,} {what}", {}, "stated", "--limit 0 looks at each")


def moment(ns: int) -> str:
    """A time as people read it, UTC."""
    return to_utc(ns).replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")
