"""Take one delivery of messages: rows for new object versions, one flow run for what none covers.

    messages ─▶ versions D, poison, ignored        K = a function of the set D alone
    D ─▶ row of each, with batch K, if it has none
    D without a run ─▶ was an older batch of theirs started? ─▶ that run covers them
          else ─▶ batch K on the row ─▶ run of key K over the hours of ALL of D ─▶ run on the row

**The rule.** Key and parameters of a run follow from the same set, so whoever starts "the run of
K" starts the same run, and Prefect keeps one per key: if a run of K exists, it covers all of D.
A row names its batch before that batch's run is started, and its run after. Hence:

- each version is covered by at least one run, wherever a delivery died: its messages come back;
- a delivery whose versions all have runs starts none, in whatever grouping they come back;
- only two deliveries of one version at the same time may start two runs, which does no harm: the
  flow looks, and changes nothing.

Poison fails alone. A message whose version is not covered yet fails, too, so that it comes back.
Not here: reading messages (`lineage_event`), DynamoDB, Prefect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from batch.aws.lineage_event import (
    GRACE_MINUTES,
    BronzeHour,
    Ignored,
    Landed,
    batch_key,
    hours_of,
    is_later,
    parse_message,
)
from batch.aws.lineage_table import Row
from stream.errors import PipelineError, RecordRejected

SLACK_MS = 60_000
"""The run's clock, S3's and ours differ; a run that comes too early would only say "waiting"."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the queue."""

    id: str
    body: str


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A flow run to start: under which key, over which hours, and not before when (epoch ms)."""

    key: str
    hours: tuple[BronzeHour, ...]
    after_ms: int


class Rows(Protocol):
    """Where versions have their rows (`lineage_table`)."""

    def note(self, landed: Landed, batch: str) -> Row | None:
        """Write a version's row if it has none; else the row that is there."""
        ...

    def amend(self, landed: Landed, row: Row) -> None:
        """Say another batch, or the run, unless a run is noted."""
        ...


class Runs(Protocol):
    """Where runs are started (`prefect_trigger`)."""

    def find(self, keys: Collection[str]) -> dict[str, str]:
        """Ids of the runs that exist, by key."""
        ...

    def start(self, request: RunRequest) -> str:
        """The id of the run of this key; started if there is none."""
        ...


@dataclass(slots=True)
class Outcome:
    """What became of a delivery. `failed`: ids of messages that must come back, with the reason.

    `rows`: versions that were new. `known`: versions that had a row. `run`: the run started.
    """

    failed: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    poison: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    known: int = 0
    repeated: int = 0
    rewritten: list[str] = field(default_factory=list)
    run: str | None = None
    trouble: str | None = None

    def refuse(self, ids: Iterable[str], error: RecordRejected) -> None:
        """Poison: these go to the dead-letter queue after their last attempt."""
        for identity in ids:
            self.failed[identity] = str(error)
            self.poison[error.reason] += 1

    def postpone(self, ids: Iterable[str], error: PipelineError) -> None:
        """Not now: these come back."""
        self.trouble = str(error)
        self.failed |= dict.fromkeys(ids, str(error))


def take_batch(
    messages: Sequence[Message], rows: Rows, runs: Runs, buckets: Collection[str] = ()
) -> Outcome:
    """Take one delivery; see the rule above.

    Args: buckets: those whose objects are expected; none means any.

    Raises: nothing of ours: what was not done comes back, and `trouble` says why.
    """
    outcome = Outcome()
    versions = _read(messages, buckets, outcome)
    key = batch_key(v.landed for v in versions)
    try:
        _note_rows(versions, key, rows, outcome)
        _leave_to_older_runs(versions, key, rows, runs)
        if left := [version for version in versions if not version.is_done]:
            outcome.run = runs.start(_request(key, versions))
            for version in left:
                rows.amend(version.landed, Row(key, outcome.run))
                version.is_done = True
    except PipelineError as error:
        outcome.postpone((i for v in versions if not v.is_done for i in v.ids), error)
    return outcome


@dataclass(slots=True)
class _Version:
    """A version of the delivery, with the messages that announce it.

    `batch`: the one that its row names. `is_done`: its row names a run, or it is poison.
    """

    landed: Landed
    ids: list[str]
    batch: str = ""
    is_done: bool = False


def _read(
    messages: Sequence[Message], buckets: Collection[str], outcome: Outcome
) -> list[_Version]:
    found: dict[tuple[str, str], _Version] = {}
    for message in messages:
        try:
            landed = parse_message(message.body, buckets)
        except RecordRejected as error:
            outcome.refuse([message.id], error)
            continue
        if isinstance(landed, Ignored):
            outcome.ignored[landed.reason] += 1
            continue
        version = found.setdefault(landed.identity, _Version(landed, []))
        outcome.repeated += bool(version.ids)
        version.ids.append(message.id)
    outcome.rewritten = _rewritten([version.landed for version in found.values()])
    return list(found.values())


def _rewritten(landed: Sequence[Landed]) -> list[str]:
    """Objects of which this delivery announces several versions: Bronze is written once."""
    newest: dict[str, Landed] = {}
    twice = set()
    for item in landed:
        before = newest.setdefault(item.object, item)
        if before is not item:
            twice.add(item.object)
            newest[item.object] = item if is_later(item.sequencer, before.sequencer) else before
    return [f"{name} (newest etag {newest[name].etag})" for name in sorted(twice)]


def _note_rows(versions: Iterable[_Version], key: str, rows: Rows, outcome: Outcome) -> None:
    """Write the rows that are missing."""
    for version in versions:
        try:
            before = rows.note(version.landed, key)
        except RecordRejected as error:
            outcome.refuse(version.ids, error)
            version.is_done = True
            continue
        outcome.rows += before is None
        outcome.known += before is not None
        version.batch = before.batch if before else key
        version.is_done = before is not None and before.run is not None


def _leave_to_older_runs(versions: Iterable[_Version], key: str, rows: Rows, runs: Runs) -> None:
    """Versions whose older batch was started before its delivery died have that run; the other
    ones of older batches join this one.
    """
    strangers = [v for v in versions if not v.is_done and v.batch != key]
    started = runs.find({v.batch for v in strangers}) if strangers else {}
    for version in strangers:
        run = started.get(version.batch)
        rows.amend(version.landed, Row(version.batch if run else key, run))
        version.is_done = run is not None


def _request(key: str, versions: Sequence[_Version]) -> RunRequest:
    landed = [version.landed for version in versions]
    newest = max(item.event_ms for item in landed)
    after_ms = newest + GRACE_MINUTES * 60_000 + SLACK_MS
    return RunRequest(key, tuple(hours_of(landed)), after_ms)
