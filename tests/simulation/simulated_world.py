"""What outlives a process: the stream, the objects, the tables, time, and who acts when.

One thread. An actor is whatever would be a thread or a person elsewhere: it does one step and says
after how many seconds it wants the next. Of those that are due the seed picks one; if none is, the
clock moves on. A step that waits inside runs the others meanwhile, so any two may interleave at
any call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import orjson
from invariants import BrokenInvariantError, Lake, TrueRecord, Truth, check_positions, check_write
from memory_tables import HeldTable, MemoryTable, Version
from obstore.store import MemoryStore
from seeded_faults import Trace, Weather

from stream.clock import ManualClock
from stream.feeds.contract import Contract
from stream.lake.entries import Head
from stream.lake.ledger import Ledger
from stream.lake.places import Place, Places
from stream.lake.store import Store
from stream.slices import ShardPosition, pad_sequence
from stream.sources.memory import MemoryStream

START_NS = 1_764_000_000_000_000_000
STEP_SECONDS = 0.002
"""The least that a step takes: nobody is for ever first."""


@dataclass(eq=False, slots=True)
class Actor:
    """`step` returns the seconds until the next one, None: never again."""

    name: str
    step: Callable[[], float | None]
    due: float
    is_busy: bool = False
    frozen_until: float = 0.0

    @property
    def awake(self) -> float:
        return max(self.due, self.frozen_until)


class World:
    """Everything that is there before a process starts and after it died."""

    def __init__(self, seed: int, contract: Contract, *, keeps_lines: bool = False) -> None:
        self.random = Random(seed)
        self.clock = ManualClock(START_NS)
        self.contract = contract
        self.trace = Trace(keeps_lines)
        self.weather = Weather.of(self.random)
        self.truth = Truth()
        self.actors: list[Actor] = []
        self.store = Store(Places(Place(MemoryStore(), "memory://lake")))
        self.table = HeldTable(contract.feed, contract.silver_schema, self._watch_commit)
        self.positions: dict[str, ShardPosition] = {}
        self.stream = MemoryStream(
            "headrace-trades",
            self.random.choice((1, 2)),
            self.clock,
            retention_ms=200_000,
            first_sequence_number=self.random.choice((1, 97, 10**20)),
        )
        for info in self.stream.list_shards():
            self.truth.records[info.shard] = []

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def act(self, name: str, step: Callable[[], float | None], after: float = 0.0) -> Actor:
        """A new actor."""
        self.actors.append(Actor(name, step, self.now + after))
        return self.actors[-1]

    def run_for(self, seconds: float) -> None:
        """Let everybody who is not in the middle of a step act, until so much time has passed."""
        until = self.now + seconds
        while True:
            now, soonest, ready = self.now, until, []
            for actor in self.actors:
                if not actor.is_busy:
                    awake = actor.awake
                    soonest = min(soonest, awake)
                    if awake <= now:
                        ready.append(actor)
            if ready:
                self._step(self.random.choice(ready))
                continue
            if soonest >= until:
                self._move_to(until)
                return
            self._move_to(soonest)

    def put(
        self, payload: bytes, key: str, arrival_ms: int | None = None, hash_key: int | None = None
    ) -> str:
        """A producer's record; returns the shard that took it."""
        shard, number = self.stream.put(
            payload, key, arrival_ms=arrival_ms, explicit_hash_key=hash_key
        )
        self.truth.records[shard].append(TrueRecord(number, payload))
        return shard

    def reshard(self) -> None:
        """Split an open shard or merge two, whatever fits."""
        shards = [info for info in self.stream.list_shards() if not info.is_closed]
        shards.sort(key=lambda info: info.first_hash_key)
        if len(shards) > 1 and (len(shards) > 3 or self.random.random() < 0.5):
            at = self.random.randrange(len(shards) - 1)
            pair = (shards[at].shard, shards[at + 1].shard)
            self._adopt_shard(self.stream.merge_shards(*pair), pair)
        else:
            parent = self.random.choice(shards).shard
            for child in self.stream.split_shard(parent):
                self._adopt_shard(child, (parent,))

    def say(self, line: str) -> None:
        """Into the trace."""
        self.trace.add(self.clock.now_ns(), line)

    def watch_write(self, path: str, before: bytes | None, after: bytes, verb: str) -> None:
        """Judge a write to the lake as it happens."""
        check_write(path, before, after, verb)

    def lake(self) -> Lake:
        """The lake as it is now, read without faults."""
        objects = {info.path: self.store.get(info.path) or b"" for info in self.store.list("")}
        newest = self.table.versions[-1]
        silver = [self.store.relative(held.file.address) for held in newest.files]
        return Lake(objects, silver, self.ledger().entries())

    def ledger(self) -> Ledger:
        """The ledger, without faults."""
        return Ledger(self.contract.feed, MemoryTable(self.table), self.store, self.clock)

    def left_behind(self) -> list[str]:
        """What the stream still holds and the ledger has not applied; empty: caught up."""
        stream = {name.rpartition("/")[2]: p for name, p in self.positions.items()}
        behind = []
        for info in self.stream.list_shards():
            position = stream.get(info.shard, ShardPosition(None))
            held = self.stream.shard(info.shard).records
            last = pad_sequence(str(held[-1].sequence_number)) if held else ""
            if pad_sequence(position.sequence_number) < last:
                behind.append(f"{info.shard} stands at {position.sequence_number}, tip {last}")
            elif info.is_closed and not position.is_ended:
                behind.append(f"{info.shard} is closed and not ended")
        return behind

    def _watch_commit(self, version: Version) -> None:
        head = Head.of(version.properties)
        check_positions(self.positions, head.positions)
        self.positions = dict(head.positions)
        state = orjson.dumps({s: p.sequence_number for s, p in sorted(self.positions.items())})
        self.say(f"version {version.number} of {len(version.files)} files {state.decode()}")

    def _adopt_shard(self, shard: str, parents: tuple[str, ...]) -> None:
        self.truth.records[shard], self.truth.parents[shard] = [], parents
        self.say(f"shard {shard} of {parents}")

    def _step(self, actor: Actor) -> None:
        actor.is_busy = True
        try:
            pause = actor.step()
        finally:
            actor.is_busy = False
        if pause is None:
            self.actors.remove(actor)
        else:
            actor.due = self.now + max(pause, STEP_SECONDS)

    def _move_to(self, moment: float) -> None:
        if moment > self.now:
            self.clock.sleep(moment - self.now)


def broken(what: str) -> BrokenInvariantError:
    """What the scheduler itself finds wrong."""
    return BrokenInvariantError(what)
