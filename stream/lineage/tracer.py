"""Answer a question about lineage: back to the exact bytes, forward to Gold, every link checked.

    Gold row ─▶ pinned snapshot ─▶ rows that count ─▶ files ─▶ slices ─▶ Bronze ─▶ bytes
                                                                 └─▶ commits, quarantine, bars, Gold

Reads no more than the question needs: the ledger newest first down to the slice, the files that
receipts lead to, the days that a row lies in. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from stream.bars import TABLE as BARS_TABLE
from stream.clock import to_utc
from stream.errors import ConfigError
from stream.feeds import load_feed, load_feeds
from stream.feeds.contract import Contract
from stream.lake.connect import Lake, connect_lake
from stream.lake.history import SliceState
from stream.lineage.bars import bar_back, bars_link
from stream.lineage.builds import Gold, read_gold
from stream.lineage.gold_forward import gold_links, gold_tables
from stream.lineage.gold_rows import (
    Counted,
    count_rows,
    feeds_of,
    find_gold_rows,
    key_columns,
    model_link,
)
from stream.lineage.grains import BY_DAY, FROM_LEDGER
from stream.lineage.keys import find_states, nearest
from stream.lineage.question import Question, RowName, read_question
from stream.lineage.rows import (
    QUARANTINE,
    VIEWS,
    find_quarantined,
    find_silver_rows,
    need_one,
    telling_columns,
)
from stream.lineage.scope import Options, Scope
from stream.lineage.silver import SliceRows, read_slice_rows
from stream.lineage.slices import (
    SliceTrace,
    bronze_link,
    commit_links,
    file_links,
    find_originals,
    look_at,
    message_link,
    more_link,
    quarantine_link,
    slice_link,
)
from stream.lineage.source import Source, trace_rows
from stream.lineage.tree import Link, SourceRecord, Trace
from stream.settings import Settings


def trace(
    settings: Settings,
    what: str,
    conditions: Sequence[str] = (),
    options: Options | None = None,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Trace:
    """Trace a key or a row of the lake that the settings describe.

    Raises: ConfigError: nothing such exists (with the nearest names), or several rows do.
    StoreUnavailableError. A broken link is no error: see `Trace.is_whole`.
    """
    return trace_lake(
        settings, connect_lake(settings), what, conditions, options, progress=progress
    )


def trace_lake(
    settings: Settings,
    lake: Lake,
    what: str,
    conditions: Sequence[str] = (),
    options: Options | None = None,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Trace:
    """`trace` for a lake at hand."""
    question = read_question(what, conditions)
    with Scope(settings, lake, options or Options(), progress) as scope:
        answer = Trace(" ".join([what, *conditions]), "")
        _Tracer(scope, answer).answer(question)
        answer.broken = list(dict.fromkeys(scope.broken))
        answer.notes, answer.reads = scope.notes, scope.reads
        return answer


class _Tracer:
    """Builds one answer."""

    def __init__(self, scope: Scope, answer: Trace) -> None:
        self._scope = scope
        self._answer = answer

    def answer(self, question: Question) -> None:
        """Fill the answer."""
        if not isinstance(question, RowName):
            found = find_states(self._scope, question)
            self._answer.kind = found.kind
            back, forward = found.back, found.forward
            self._trace_slices(found.feed, found.states, back, forward, found.sequence_numbers)
            return
        self._answer.kind = "row"
        table, names = question.table, self._scope.table_names()
        is_silver = VIEWS.get(table, table) in names and question.schema != "gold"
        if table == QUARANTINE:
            self._trace_quarantined(question)
        elif is_silver and VIEWS.get(table, table) == BARS_TABLE:
            self._trace_bar(question)
        elif is_silver and VIEWS.get(table, table) in load_feeds():
            self._trace_silver(question)
        else:
            self._trace_gold(question)

    # Slices: an object, a record, a commit.

    def _trace_slices(
        self,
        feed: str,
        states: Sequence[SliceState],
        back: Link,
        forward: Link,
        sequence_numbers: Collection[str] | None,
    ) -> None:
        scope, contract = self._scope, load_feed(feed)
        shown = states[: scope.options.cap(len(states))]
        found = read_slice_rows(scope, scope.ledger(feed), shown, sequence_numbers)
        for number, state in enumerate(shown):
            scope.progress(f"slice {number + 1} of {len(shown)}")
            source = self._add_back(back, state)
            mine = look_at(
                scope,
                contract,
                state,
                found.of(state.record.slice_id),
                source,
                is_whole=found.is_whole,
                sequence_numbers=sequence_numbers,
            )
            self._add_forward(forward, contract, found, mine)
            self._keep_records(contract, mine)
        if len(states) > len(shown):
            more = more_link(len(states) - len(shown), "slices")
            back.add(more)
            forward.add(more)
        self._add_readers(forward, contract, states, found.rows, is_all=len(shown) == len(states))
        self._finish(back, forward, contract)

    def _add_back(self, back: Link, state: SliceState) -> Source | None:
        link, source = bronze_link(self._scope, state)
        back.add(slice_link(state)).add(link)
        return source

    def _add_forward(
        self, forward: Link, contract: Contract, found: SliceRows, mine: SliceTrace
    ) -> None:
        scope, state = self._scope, mine.state
        link = forward.add(slice_link(state))
        for part in commit_links(scope.ledger(state.feed), state):
            link.add(part)
        what = "rows" if mine.is_all else "rows of the record"
        for part in file_links(found, state.record.slice_id, what):
            link.add(part)
        if quarantined := quarantine_link(scope, state):
            link.add(quarantined)
        if mine.messages:
            messages = link.add(message_link(scope, contract, mine))
            self._add_originals(contract, mine, messages)

    def _add_originals(self, contract: Contract, mine: SliceTrace, messages: Link) -> None:
        """Of the duplicates that are shown, which row they repeat."""
        shown = [link for link in messages.links if link.kind == "duplicate"]
        rows = [f.row for m in mine.messages for f in m.fates if f.kind == "duplicate" and f.row]
        ledger = self._scope.ledger(contract.feed)
        originals = find_originals(self._scope, contract, ledger, rows[: len(shown)])
        for link, original in zip(shown, originals, strict=False):
            if original is None:
                link.says = "its key was known then; Silver holds no such row at its event time"
            else:
                place = f"record {original['sequence_number']} line {original['line_no']}"
                link.says = f"repeats {place} of {original['slice_id']}"

    def _keep_records(self, contract: Contract, mine: SliceTrace) -> None:
        """The source of each message; rows that decode otherwise now are named by column."""
        if mine.source is None:
            return
        undecided = {
            (m.sequence_number, m.line_no)
            for m in mine.messages
            if any(f.kind == "undecided" for f in m.fates)
        }
        limit = self._scope.options.limit or len(mine.messages)
        if undecided and mine.rows.num_rows:
            rows = mine.rows.filter(pa.array(_is_at(mine.rows, undecided)))
            rows = rows.slice(0, limit)
            self._answer.records += trace_rows(self._scope, contract, mine.source, rows)
        record = mine.state.record
        for message in mine.messages[:limit]:
            if (message.sequence_number, message.line_no) in undecided:
                continue
            kinds = [f"{f.kind}: {f.says}" if f.says else f.kind for f in message.fates]
            is_row = any(fate.kind == "silver" for fate in message.fates)
            self._answer.records.append(
                SourceRecord(
                    slice_id=record.slice_id,
                    sequence_number=message.sequence_number,
                    record_no=message.record_no,
                    line_no=message.line_no,
                    bronze=record.bronze.path if record.bronze else "",
                    payload=mine.source.records["payload"][message.record_no].as_py(),
                    message=message.raw,
                    verdict="equal" if is_row else "not compared",
                    says=", ".join(kinds),
                )
            )

    def _add_readers(
        self,
        forward: Link,
        contract: Contract,
        states: Sequence[SliceState],
        rows: pa.Table,
        *,
        is_all: bool = True,
    ) -> None:
        """Bars and Gold, once for all slices."""
        if not self._scope.options.goes_forward or not states:
            return
        number = max(s.replayed or s.number for s in states)
        if bars := bars_link(self._scope, contract, rows, number):
            forward.add(bars)
        if sum(state.silver_rows for state in states):
            for link in gold_links(self._scope, contract.feed, states, rows if is_all else None):
                forward.add(link)

    def _finish(self, back: Link, forward: Link, contract: Contract) -> None:
        options, answer = self._scope.options, self._answer
        answer.back = back if options.goes_back else None
        answer.forward = forward if options.goes_forward else None
        answer.hides_bytes = self._scope.hides(contract)

    # Rows of Silver.

    def _trace_silver(self, question: RowName) -> None:
        found = find_silver_rows(self._scope, question)
        names = telling_columns(question.table)
        need_one(self._scope, question.table, found.rows.to_pylist(), found.count, names)
        feed = VIEWS.get(question.table, question.table)
        contract = load_feed(feed)
        back = Link("row", question.table, {"rows": found.rows.num_rows})
        forward = Link("row", question.table, {"rows": found.rows.num_rows})
        states = self._back_from_rows(contract, found.rows, back)
        for state in states:
            for link in commit_links(self._scope.ledger(feed), state):
                forward.add(link)
        self._add_readers(forward, contract, states, found.rows)
        self._finish(back, forward, contract)

    def _back_from_rows(self, contract: Contract, rows: pa.Table, back: Link) -> list[SliceState]:
        """Each row's file, slice, Bronze object and bytes."""
        scope, feed = self._scope, contract.feed
        ledger, states = scope.ledger(feed), list[SliceState]()
        for slice_id in pc.unique(rows["slice_id"]).to_pylist():
            scope.progress(f"slice {len(states) + 1}")
            state = ledger.find_slice(slice_id)
            if state is None:
                scope.break_link(
                    "unknown_slice", slice_id, "a slice of the ledger", "no commit holds it",
                    f"Find who wrote its rows; `headrace prove {feed}` names the file.",
                )  # fmt: skip
                continue
            states.append(state)
            mine = rows.filter(pc.equal(rows["slice_id"], slice_id))
            found = read_slice_rows(
                scope, ledger, [state], set(mine["sequence_number"].to_pylist())
            )
            link = back.add(slice_link(state))
            for part in file_links(found, slice_id, "rows of these records"):
                link.add(part)
            object_link, source = bronze_link(scope, state)
            link.add(object_link)
            if source is not None:
                records = trace_rows(scope, contract, source, mine)
                self._answer.records += records
                for record in records:
                    object_link.add(_record_link(record))
        return states

    def _trace_bar(self, question: RowName) -> None:
        found = find_silver_rows(self._scope, question)
        bars = found.rows.to_pylist()
        need_one(self._scope, question.table, bars, found.count, telling_columns(question.table))
        contract = load_feed("trades")
        back = Link("row", question.table, {"rows": len(bars)})
        forward = Link("row", question.table, {"rows": len(bars)})
        states: list[SliceState] = []
        for bar in bars:
            link, rows = bar_back(self._scope, contract, bar)
            back.add(link)
            limit = self._scope.options.cap(rows.num_rows)
            states += self._back_from_rows(contract, rows.slice(0, limit), link)
            if rows.num_rows > limit:
                link.add(more_link(rows.num_rows - limit, "trades"))
            self._add_gold(forward, contract, states, rows)
        self._finish(back, forward, contract)

    def _add_gold(
        self, forward: Link, contract: Contract, states: Sequence[SliceState], rows: pa.Table
    ) -> None:
        if self._scope.options.goes_forward and states:
            for link in gold_links(self._scope, contract.feed, states, rows):
                forward.add(link)

    def _trace_quarantined(self, question: RowName) -> None:
        rows = find_quarantined(self._scope, question)
        names = ["feed", "slice_id", "sequence_number", "line_no", "reason"]
        need_one(self._scope, QUARANTINE, rows, rows[0]["found"] if rows else 0, names)
        whole_back, whole_forward = Link("row", QUARANTINE), Link("row", QUARANTINE)
        for row in rows:
            state = self._scope.ledger(row["feed"]).find_slice(row["slice_id"])
            assert state is not None  # the view read it in the ledger
            facts = {"reason": row["reason"], "line": row["line_no"]}
            back, forward = (Link("message", row["sequence_number"], dict(facts)) for _ in "bf")
            hides = self._answer.hides_bytes
            self._trace_slices(row["feed"], [state], back, forward, {row["sequence_number"]})
            self._answer.hides_bytes |= hides
            whole_back.add(back)
            whole_forward.add(forward)
        options = self._scope.options
        self._answer.back = whole_back if options.goes_back else None
        self._answer.forward = whole_forward if options.goes_forward else None

    # Rows of Gold.

    def _trace_gold(self, question: RowName) -> None:
        golds = read_gold(self._scope)
        gold = next(
            (g for g in golds if g.file and question.table in (g.build.relations or {})), None
        )
        if gold is None:
            raise self._no_table(question.table, golds)
        found = find_gold_rows(self._scope, gold, question)
        keys = key_columns(gold, question.table, found.types)
        need_one(self._scope, question.table, found.rows, found.count, keys)
        back = Link("row", question.table, {"rows": len(found.rows)})
        for row in found.rows:
            shown = {name: row[name] for name in keys}
            others = {name: value for name, value in row.items() if name not in keys}
            link = back.add(Link("row", gold.name, shown))
            link.add(Link("values", "as Gold holds them", others))
            self._back_from_gold(gold, question.table, row, link)
        forward = Link("row", question.table)
        for name in sorted(gold.models):
            if question.table in gold.models[name].parents:
                forward.add(Link("model", name))
        if not forward.links:
            forward.says = "no other model reads this table"
        options = self._scope.options
        self._answer.back = back if options.goes_back else None
        self._answer.forward = forward if options.goes_forward else None

    def _back_from_gold(self, gold: Gold, table: str, row: dict[str, object], back: Link) -> None:
        feeds = feeds_of(gold, table)
        back.add(model_link(gold, table, feeds))
        for feed in feeds:
            counted = count_rows(self._scope, gold, table, row, feed)
            if counted is not None:
                back.add(counted.link)
                self._back_from_counted(load_feed(feed), counted)
        if table in FROM_LEDGER:
            self._back_from_ledger(gold, table, row, back)

    def _back_from_counted(self, contract: Contract, counted: Counted) -> None:
        options = self._scope.options
        if not counted.rows.num_rows:
            return
        before = len(self._answer.records)
        self._back_from_rows(contract, counted.rows, counted.link)
        if self._scope.hides(contract) and len(self._answer.records) > before:
            self._answer.hides_bytes = True
        left = sum(counted.slices.values()) - counted.rows.num_rows
        if options.limit and left > 0:
            counted.link.add(more_link(left, f"rows of {len(counted.slices)} slices"))

    def _back_from_ledger(self, gold: Gold, table: str, row: dict[str, object], back: Link) -> None:
        """Models that count the ledger: the slices of the row's feed and day."""
        feed = str(row["feed"])
        number = gold.build.numbers.get(feed, 0)
        link = back.add(Link("ledger", feed, {"up to": f"{feed}#{number}"}))
        day = row.get(BY_DAY.get(table, ""))
        if day is None:
            link.says = "exact per snapshot: all entries up to this one"
            return
        ledger = self._scope.ledger(feed)
        ledger.read_until(lambda: False)
        states = [
            state
            for state in ledger.states()
            if state.record.rows and state.number <= number and _arrival_day(state) == day
        ]
        link.facts |= {"slices": len(states), "records": sum(s.record.rows for s in states)}
        wanted = {name: row[name] for name in ("slices", "records") if name in row}
        if table == "fct_feed_day":
            is_good = all(link.facts[name] == value for name, value in wanted.items())
            link.judge(is_good=is_good, says="counted again" if is_good else f"Gold: {wanted}")
        for state in states[: self._scope.options.cap(len(states))]:
            link.add(slice_link(state)).add(bronze_link(self._scope, state)[0])
        if len(states) > len(link.links):
            link.add(more_link(len(states) - len(link.links), "slices"))

    def _no_table(self, name: str, golds: Sequence[Gold]) -> ConfigError:
        known = [*self._scope.table_names(), *VIEWS, QUARANTINE, *gold_tables(golds)]
        elsewhere = [g.name for g in golds if not g.file and name in (g.build.relations or {})]
        if elsewhere:
            return ConfigError(
                f"table {name} is published on another machine ({', '.join(elsewhere)}): its rows "
                "cannot be read here. Ask for a slice or a row of Silver: the forward trace names "
                "that build."
            )
        return ConfigError(
            f"no table {name!r} in this lake.{nearest(name, known)} Tables: "
            f"{', '.join(sorted(set(known)))}."
        )


def _record_link(record: SourceRecord) -> Link:
    link = Link("record", f"{record.sequence_number} line {record.line_no}")
    link.facts = {"no": record.record_no, "bytes": len(record.payload)}
    is_good = record.verdict == "equal"
    says = "decoded again: equal" if is_good else f"{record.verdict}: {record.says}"
    return link.judge(is_good=is_good, says=says)


def _arrival_day(state: SliceState) -> date:
    return to_utc(state.record.arrival_ns[0]).date()


def _is_at(rows: pa.Table, places: Collection[tuple[str, int]]) -> list[bool]:
    pairs = zip(rows["sequence_number"].to_pylist(), rows["line_no"].to_pylist(), strict=True)
    return [pair in places for pair in pairs]
