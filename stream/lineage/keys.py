"""From a key to the slices that it means: an object, a slice id, a record, a commit."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from stream.bars import TABLE as BARS_TABLE
from stream.errors import ConfigError
from stream.feeds import load_feed, load_feeds
from stream.lake.closed import ClosedShards
from stream.lake.entries import Entry
from stream.lake.history import SliceState
from stream.lake.layout import BronzeKey, ExtractPartKey, LedgerKey, QuarantineKey, SilverKey
from stream.lineage.question import (
    SYNTAX,
    CommitName,
    Question,
    RecordName,
    RowName,
    SliceName,
)
from stream.lineage.scope import Scope
from stream.lineage.silver import query_files
from stream.lineage.slices import moment
from stream.lineage.tree import Link
from stream.prove.objects import read_object
from stream.prove.reconcile import MARGIN_MS
from stream.slices import ShardRef, is_after, slice_id
from stream.sources.extract import read_manifest
from stream.sources.extract_lanes import PART_STEP, shard_of

LISTED = 2_000


@dataclass(slots=True)
class Found:
    """The slices that a key means, and the first link of each direction.

    `sequence_numbers`: only these records of them; None: all.
    """

    kind: str
    feed: str
    states: list[SliceState]
    back: Link
    forward: Link
    sequence_numbers: set[str] | None = None


def find_states(scope: Scope, question: Question) -> Found:
    """The slices of a key. Raises: ConfigError: nothing such, with the nearest names."""
    if isinstance(question, SliceName):
        return _find_slice(scope, question)
    if isinstance(question, RecordName):
        return _find_record(scope, question)
    if isinstance(question, CommitName):
        return _find_commit(scope, question)
    assert not isinstance(question, RowName)
    path = scope.store.relative(question.path)
    find = _FIND.get(path.partition("/")[0])
    if find is None:
        raise ConfigError(f"{question.path[:200]!r} is no object of this lake. {SYNTAX}.")
    try:
        return find(scope, path)
    except ValueError:
        raise _no_object(scope, path) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest names; empty if none is near."""
    near = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=3, cutoff=0.5)
    return f" Nearest: {', '.join(near)}." if near else ""


def _links(kind: str, name: str, facts: dict[str, Any] | None = None) -> tuple[Link, Link]:
    return Link(kind, name, dict(facts or {})), Link(kind, name, dict(facts or {}))


def _need_feed(scope: Scope, feed: str) -> None:
    if not scope.is_started(feed):
        known = scope.feeds()
        raise ConfigError(
            f"feed {feed!r} has no ledger in this lake.{nearest(feed, known)} Feeds that were "
            f"started: {', '.join(known)}."
        )


def _find_bronze(scope: Scope, path: str) -> Found:
    if "/run_id=" in path:
        return _find_part(scope, path)
    key = BronzeKey.parse(path)
    _need_feed(scope, key.shard.feed)
    ledger = scope.ledger(key.shard.feed)
    hour_ms = _hour_ms(key)
    state = ledger.find_slice(slice_id(key.shard, key.first), hour_ms - MARGIN_MS)
    back, forward = _links("object", path)
    if state is not None and state.record.bronze and state.record.bronze.path == path:
        return Found("Bronze object", key.shard.feed, [state], back, forward)
    if not scope.store.exists(path):
        raise _no_object(scope, path)
    position = ledger.head.positions.get(str(key.shard))
    at = position.sequence_number if position else None
    if is_after(key.first.lstrip("0"), at):
        for link in (back, forward):
            link.says = "written, not committed yet: in flight; a restart adopts it"
    else:
        scope.break_link(
            "bronze_foreign", path, "an object that a commit names", "no commit names it",
            f"A lost race leaves such a remnant; `headrace prove {key.shard.feed}` tells it from "
            "a foreign object.",
        )  # fmt: skip
        back.judge(is_good=False, says="no commit names it")
    return Found("Bronze object", key.shard.feed, [], back, forward)


def _hour_ms(key: BronzeKey) -> int:
    at = datetime(key.day.year, key.day.month, key.day.day, key.hour, tzinfo=UTC)
    return int(at.timestamp() * 1000)


def _find_part(scope: Scope, path: str) -> Found:
    if path.endswith(".json") and "/manifest/" in path:
        raise _no_object(scope, path)
    key = ExtractPartKey.parse(path)
    manifest = read_manifest(scope.store, key.source, key.run_id)
    numbers = [n for n, p in enumerate(manifest.parts, 1) if p.path == path] if manifest else []
    if manifest is None or not numbers:
        if not scope.store.exists(path):
            raise _no_object(scope, path)
        raise ConfigError(
            f"{path} is not a part of a finished extract: no manifest names it, so no feed holds "
            "rows of it."
        )
    part = manifest.parts[numbers[0] - 1]
    back, forward = _links("object", path, {"items": part.rows})
    if manifest.feed is None:
        raise ConfigError(f"{path}: extract {key.run_id} belongs to no feed, it stays in Bronze.")
    if not scope.is_started(manifest.feed) or not part.rows:
        forward.says = "landed in Bronze, not replayed into a table"
        return Found("extract part", manifest.feed, [], back, forward)
    ledger = scope.ledger(manifest.feed)
    first = slice_id(shard_of(manifest), str(numbers[0] * PART_STEP + 1))
    if ledger.find_slice(first) is None:
        forward.says = f"not replayed yet: `headrace replay {manifest.feed} --source extract`"
        return Found("extract part", manifest.feed, [], back, forward)
    states = [ledger.state(name) for name in reversed(ledger.bronze[path])]
    return Found("extract part", manifest.feed, states, back, forward)


def _find_quarantine(scope: Scope, path: str) -> Found:
    key = QuarantineKey.parse(path)
    _need_feed(scope, key.shard.feed)
    state = scope.ledger(key.shard.feed).find_slice(slice_id(key.shard, key.first))
    back, forward = _links("object", path)
    if state is None:
        raise _no_object(scope, path)
    named = state.record.quarantine
    if named is None or named.path != path:
        text = "superseded by a replay, or left by a lost race: " + (
            f"the slice's rejects are now {named.path}" if named else "the slice has no rejects now"
        )
        if not scope.store.exists(path):
            raise _no_object(scope, path)
        forward.says = text
    return Found("quarantine object", key.shard.feed, [state], back, forward)


def _find_silver(scope: Scope, path: str) -> Found:
    key = SilverKey.parse(path)
    feed = key.table
    if feed == BARS_TABLE:
        raise ConfigError(
            f"{path} holds revisions of bars, made of trades of its day. Ask for one: `headrace "
            f"lineage {BARS_TABLE}_current venue=… symbol=… ts_event={key.day}T00:00`."
        )
    if feed not in load_feeds():
        raise _no_object(scope, path)
    _need_feed(scope, feed)
    ledger = scope.ledger(feed)
    ledger.read_until(lambda: path in ledger.written)
    written = ledger.written.get(path)
    if written is None and not scope.store.exists(path):
        raise _no_object(scope, path)
    back, forward = _links("object", path)
    if written is None:
        scope.break_link(
            "silver_foreign", path, "a file that a commit names", "no commit names it",
            f"A crash or a lost race leaves such a file; `headrace prove {feed}` says whether the "
            "table holds it.",
        )  # fmt: skip
        back.judge(is_good=False, says="no commit names it")
        return Found("Silver file", feed, [], back, forward)
    back.facts |= {"rows": written.reference.rows, "written by": f"{feed}#{written.number}"}
    if path in ledger.removed:
        forward.says = f"replaced by {feed}#{ledger.removed[path]}: its rows are elsewhere now"
        if not scope.store.exists(path):  # swept after its grace: the receipts stay
            back.says = "no longer stored; the ledger keeps what it held"
            names = [written.slice_id] if written.slice_id else []
            return Found("Silver file", feed, _states(scope, feed, names), back, forward)
    checked = read_object(scope.store, written.reference, "silver", "See `headrace prove`.")
    scope.count_opened([path])
    scope.reads.bytes_hashed += checked.size
    if checked.data is None:  # named with its slices, if the ledger says which they are
        scope.bad_files.add(path)
        if not written.slice_id or path in ledger.removed:
            scope.broken.extend(checked.differences)
    is_good = checked.data is not None
    back.judge(is_good=is_good, says="hash equals the ledger's" if is_good else "see below")
    names = [written.slice_id] if written.slice_id else _slices_in(scope, feed, path, back)
    return Found("Silver file", feed, _states(scope, feed, names), back, forward)


def _slices_in(scope: Scope, feed: str, path: str, back: Link) -> list[str]:
    """The slices whose rows a rewritten file holds."""
    if back.state == "broken":
        return []
    found = query_files(
        scope,
        scope.ledger(feed).table,
        [path],
        lambda source: (
            f"SELECT slice_id, min(ts_arrival_ns) AS arrived FROM {source} "  # noqa: S608  # nosec B608: a quoted file
            "GROUP BY ALL ORDER BY arrived, slice_id"
        ),
    )
    back.facts["slices"] = found.num_rows
    names: list[str] = found["slice_id"].to_pylist()
    return names


def _states(scope: Scope, feed: str, names: Sequence[str]) -> list[SliceState]:
    """The states of slices; the ledger is read no further than those that will be looked at."""
    ledger, states = scope.ledger(feed), []
    for name in names[: scope.options.cap(len(names))]:
        state = ledger.find_slice(name)
        if state is None:
            scope.break_link(
                "unknown_slice", name, "a slice of the ledger", "no commit holds it",
                f"`headrace prove {feed}` names the file that holds its rows.",
            )  # fmt: skip
        else:
            states.append(state)
    if len(names) > scope.options.cap(len(names)):
        scope.note(
            f"{len(names)} slices, the first {scope.options.limit} looked at (--limit 0: each)"
        )
    return states


def _find_entry(scope: Scope, path: str) -> Found:
    key = LedgerKey.parse(path)
    data = scope.store.get(path)
    if data is None:
        if scope.is_started(key.feed) and scope.ledger(key.feed).find_entry(key.number) is None:
            scope.note(f"{path}: the chain is broken here")
        raise _no_object(scope, path)
    _need_feed(scope, key.feed)
    entry = scope.ledger(key.feed).find_entry(key.number)
    try:
        mine = replace(Entry.from_bytes(data), positions={})
    except (ValueError, KeyError, TypeError):
        mine = None
    if entry is None or mine != entry:
        back, forward = _links("object", path)
        for link in (back, forward):
            link.says = "no head leads to this entry: it never happened (a lost race)"
        if mine is None:
            scope.break_link(
                "ledger_entry_changed", path, "an entry of the ledger", "something else",
                "Restore the version that its name promises from the bucket's versions.",
            )  # fmt: skip
        return Found("ledger entry", key.feed, [], back, forward)
    return _find_commit(scope, CommitName(key.feed, key.number))


def _find_commit(scope: Scope, question: CommitName) -> Found:
    feed = question.feed
    load_feed(feed)
    _need_feed(scope, feed)
    ledger = scope.ledger(feed)
    entry = ledger.find_entry(question.number)
    if entry is None:
        raise ConfigError(
            f"feed {feed} has no commit #{question.number}: they go from #1 to "
            f"#{ledger.head.number} (`headrace ledger {feed} --commits` lists them)."
        )
    facts: dict[str, Any] = {
        "kind": entry.kind,
        "committed": moment(entry.committed_ms * 10**6),
        "slices": len(entry.slices),
        "redriven": sum(r.messages for r in entry.redriven) or None,
        "dropped rows": sum(entry.dropped.values()) or None,
        "gaps": len(entry.gaps) or None,
        "files removed": sum(len(r.removed) for r in entry.rewrites) or None,
        "files written": sum(len(r.written) for r in entry.rewrites) or None,
    }
    facts = {name: value for name, value in facts.items() if value is not None}
    back, forward = _links("commit", f"{feed}#{entry.number}", facts)
    back.judge(is_good=True, says="its hash is its name, the head leads to it")
    for rewrite in entry.rewrites:
        for path in rewrite.removed[: scope.options.cap(len(rewrite.removed))]:
            back.add(Link("file taken out", path))
        for item in rewrite.written[: scope.options.cap(len(rewrite.written))]:
            forward.add(Link("file written", item.path, {"rows": item.rows}))
    for gap in entry.gaps:
        span = {"after": gap.after, "first kept": gap.first_kept}
        says = f"lost at the source: {gap.reason}"
        back.add(Link("gap", str(gap.shard), span, "stated", says))
    names = [r.slice_id for r in entry.slices] + [r.slice_id for r in entry.redriven]
    return Found("commit", feed, _states(scope, feed, list(dict.fromkeys(names))), back, forward)


_FIND: Mapping[str, Callable[[Scope, str], Found]] = {
    "bronze": _find_bronze,
    "quarantine": _find_quarantine,
    "silver": _find_silver,
    "ledger": _find_entry,
}


def _find_slice(scope: Scope, question: SliceName) -> Found:
    tried = []
    for feed in _feeds_of(scope, question.stream, question.shard):
        shard = ShardRef(feed, question.stream, question.shard)
        name = slice_id(shard, question.first)
        ledger = scope.ledger(feed)
        state = ledger.find_slice(name)
        if state is not None:
            return Found("slice", feed, [state], *_links("slice", name))
        tried += [record.slice_id for record in ledger.slices_of_shard(str(shard))]
    text = f"{question.stream}/{question.shard}/{question.first or 'end'}"
    if not tried:
        raise _no_shard(scope, f"{question.stream}/{question.shard}")
    raise ConfigError(f"no commit holds slice {text}.{nearest(text, tried[:LISTED])}")


def _find_record(scope: Scope, question: RecordName) -> Found:
    found, shards = [], []
    for feed in scope.feeds():
        for shard in _shards_of(scope, feed):
            stream, _, name = shard.rpartition("/")
            if name != question.shard or question.origin not in (None, feed, stream):
                continue
            shards.append(shard)
            state = scope.ledger(feed).find_record(shard, question.sequence_number)
            if state is not None:
                found.append((feed, state))
    name = f"{question.shard}:{question.sequence_number}"
    if len(found) > 1:
        each = ", ".join(f"{s.record.shard}:{question.sequence_number}" for _, s in found)
        raise ConfigError(f"record {name} is in several streams: name one of {each}")
    if not found:
        if not shards:
            raise _no_shard(scope, question.shard)
        raise ConfigError(f"no commit holds record {name}.{_range(scope, shards)}")
    feed, state = found[0]
    return Found(
        "record",
        feed,
        [state],
        *_links("record", name),
        sequence_numbers={question.sequence_number},
    )


def _range(scope: Scope, shards: Sequence[str]) -> str:
    """What was committed of these shards."""
    texts = []
    for feed in scope.feeds():
        for shard in shards:
            records = [r for r in scope.ledger(feed).slices_of_shard(shard) if r.rows]
            if records:
                texts.append(f"{shard} holds {records[-1].first} to {records[0].last}")
    return f" Committed: {'; '.join(texts[:3])}." if texts else ""


def _feeds_of(scope: Scope, stream: str, shard: str) -> list[str]:
    """The feeds that have positions of a shard."""
    name = f"{stream}/{shard}"
    return [feed for feed in scope.feeds() if name in _shards_of(scope, feed)]


def _shards_of(scope: Scope, feed: str) -> list[str]:
    """The shards of a feed, closed ones included."""
    closed = ClosedShards(feed, scope.store).read()
    return sorted({*scope.ledger(feed).head.positions, *closed})


def _no_shard(scope: Scope, name: str) -> ConfigError:
    known = [shard for feed in scope.feeds() for shard in _shards_of(scope, feed)]
    short = [shard.rpartition("/")[2] for shard in known]
    hint = nearest(name, [*known, *short])
    return ConfigError(f"no feed of this lake has a shard {name!r}.{hint}")


def _no_object(scope: Scope, path: str) -> ConfigError:
    """With the nearest names in its folder, or the deepest one above that exists."""
    folder = f"{path.rpartition('/')[0]}/"
    while folder.count("/") > 1:
        known = []
        for info in scope.store.list(folder):
            known.append(info.path)
            if len(known) >= LISTED:
                break
        if known:
            hint = nearest(path, known) or f" E.g. {known[0]}."
            return ConfigError(f"no object {path} in this lake, and no commit names it.{hint}")
        folder = f"{folder.rstrip('/').rpartition('/')[0]}/"
    return ConfigError(f"no object {path} in this lake, and no commit names it. {SYNTAX}.")
