"""One `headrace run trades`: the live wiring of the real parts, stepped instead of threaded.

What `stream.live.run_feed` assembles is assembled here from the same parts; only who calls them
differs. All state of a process is in this object: when it dies, the object is dropped, and the
next process knows what the stream, the lake and the catalog know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from seeded_faults import FaultyReader, FaultyStore, FaultyTable, Gate, ProcessDiedError, Uploads
from simulated_world import Actor, World, broken

from stream.bronze import BronzeSeals
from stream.dedup import Dedup, horizon_ns
from stream.engine import Epoch, Stop
from stream.errors import CommitUnknownError, PipelineError, RetryableError
from stream.flow import Road, RoadCommitter
from stream.lake.entries import GapRecord
from stream.lake.ledger import Ledger
from stream.lake.newest import NewestRead
from stream.live import pin_start
from stream.loop import Loop
from stream.silver import SilverKeys
from stream.slices import ShardPosition, SliceRule
from stream.sources.fetcher import ShardFetcher
from stream.sources.lanes import Lanes

EPOCH_SECONDS = 4.0


class ProcessClock:
    """The world's time; `skew_ns`: how far this host's wall clock is off. Sleeping is waiting."""

    def __init__(self, process: Process, skew_ns: int) -> None:
        self._process, self._skew_ns = process, skew_ns

    def now_ns(self) -> int:
        return self._process.world.clock.now_ns() + self._skew_ns

    def monotonic(self) -> float:
        return self._process.world.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._process.wait(seconds)
        if self._process.is_dead:
            raise ProcessDiedError


class _Positions:
    """The ledger's positions as the lanes' thread reads them: through a handle of its own."""

    def __init__(self, ledger: Ledger, stream: str) -> None:
        self._ledger, self._stream = ledger, stream

    def read(self) -> Mapping[str, ShardPosition]:
        return self._ledger.positions(self._stream)


class Process:
    """One instance, from its start to its end."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.name = world, f"p{number}"
        self.is_dead = False
        self.end: str | None = None
        """Why it is over; None while it runs."""
        self._own: list[Actor] = []
        self._frozen_until = 0.0
        self._random = Random(world.random.random())
        skew_ms = self._random.choice((0, 0, 0, -1_500, 1_500))
        self._clock = ProcessClock(self, skew_ms * 1_000_000)
        self._gate = Gate(self, world.weather, world.random, world.trace, world.clock.now_ns)
        self._newest = NewestRead(self._clock)
        self._lanes: Lanes
        self._loop: Loop[object]
        self._stop = Stop()
        self._add("boot", self._boot)

    def wait(self, seconds: float) -> None:
        """In the middle of a step: everybody else goes on; who is frozen then waits longer."""
        self.world.run_for(seconds)
        while self._frozen_until > self.world.now and not self.is_dead:
            self.world.run_for(self._frozen_until - self.world.now)

    def die(self) -> None:
        """SIGKILL."""
        self.is_dead = True
        self._finish("died")

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        self.world.say(f"{self.name} freezes for {seconds:.1f}")
        self._frozen_until = self.world.now + seconds
        for actor in self._own:
            actor.frozen_until = self._frozen_until

    def thaw(self) -> None:
        """SIGCONT."""
        self._frozen_until = 0.0
        for actor in self._own:
            actor.frozen_until = 0.0

    def stop(self) -> None:
        """SIGTERM: the open epoch is committed."""
        self.world.say(f"{self.name} is asked to stop")
        self._stop.request()

    def _boot(self) -> None:
        world, gate, clock = self.world, self._gate, self._clock
        contract, feed = world.contract, world.contract.feed
        store = FaultyStore(world.store, gate, world.watch_write)
        reader = FaultyReader(world.stream, gate, world.weather)
        table = self._open_table()
        ledger = Ledger(feed, table, store, clock)
        pin_start(ledger, reader, feed, "TRIM_HORIZON", clock)
        self._lanes = Lanes(
            feed,
            reader,
            _Positions(Ledger(feed, self._open_table(), store, clock), str(reader.identity)),
            BronzeSeals(store),
            self._rule(),
            lanes=4,
            grace_ms=300,
            poll_ms=700,
            list_shards_seconds=3.0,
            clock=clock,
        )
        keys = SilverKeys(contract, self._open_table(), store, self._lanes.ancestors_of)
        uploads = Uploads(self._random)
        dedup = Dedup(contract, keys)
        road = Road(contract, store, table.arrow_schema, dedup, for_bars=False, uploads=uploads)
        committer = RoadCommitter(
            ledger,
            take_gaps=lambda: [
                GapRecord(gap.shard, gap.after, gap.first_kept, gap.reason)
                for gap in self._lanes.gaps()
            ],
            parents_of=self._lanes.parents_of,
            horizon=horizon_ns(contract.dedup_minutes, contract.future_tolerance_ms),
        )
        epoch = Epoch(self._stop, 256_000_000, clock)
        self._loop = Loop(
            self._lanes, road.process, committer, epoch=epoch, epoch_seconds=EPOCH_SECONDS
        )
        self._listing = self._add("list", self._tend)
        self._add("loop", self._step_loop)

    def _open_table(self) -> FaultyTable:
        table = FaultyTable(
            self.world.table, self._gate, self.world.weather, self._random, self._newest
        )
        table.refresh()
        return table

    def _rule(self) -> SliceRule:
        pick = self._random.choice
        return SliceRule(
            pick((6_000, 6_000, 13_000)), pick((9, 1_000, 1_000)), pick((1_500, 10**6, 10**6))
        )

    def _tend(self) -> float:
        pause = self._lanes.tend()
        for fetcher in self._lanes.take_opened():
            self._add(fetcher.shard.shard, self._fetching(fetcher))
        return pause

    def _fetching(self, fetcher: ShardFetcher) -> Callable[[], float | None]:
        def fetch() -> float | None:
            pause = self._lanes.step(fetcher)
            if self._lanes.wants_tending:
                self._listing.due = self.world.now
            return pause

        return fetch

    def _step_loop(self) -> float | None:
        pause = self._loop.step()
        if self._loop.is_over:
            self._finish("stopped")
            return None
        return pause and self._random.uniform(0.1, 0.5)

    def _add(self, name: str, step: Callable[[], float | None]) -> Actor:
        actor = self.world.act(f"{self.name}.{name}", lambda: self._guard(step))
        self._own.append(actor)
        return actor

    def _guard(self, step: Callable[[], float | None]) -> float | None:
        if self.end is not None:
            return None
        try:
            return step()
        except ProcessDiedError:
            return None
        except PipelineError as error:
            if not self.is_dead:
                self._judge(error)
                self._finish(f"{type(error).__name__}: {error}")
            return None

    def _judge(self, error: PipelineError) -> None:
        """No fault that is injected may need a person; a trimmed shard is found at the restart."""
        is_trimmed = "was trimmed or never existed" in str(error)
        if not isinstance(error, RetryableError | CommitUnknownError) and not is_trimmed:
            raise broken(f"{self.name} needs a person: {type(error).__name__}: {error}")

    def _finish(self, why: str) -> None:
        if self.end is None:
            self.end = why
            self.world.say(f"{self.name} is over: {why}")
