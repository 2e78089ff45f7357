"""A simulated run: a seed decides the load, the weather, who dies when; the invariants judge it.

    turmoil   producers put, shards split and merge, calls fail, processes die, freeze, overlap
    calm      no fault is injected any more; within `BUDGET_SECONDS` everything must be committed
    verdict   `invariants.check_lake` over what lies in the lake

Everything is a function of the seed: one thread, one clock, one source of luck.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import orjson
from invariants import check_lake
from remembered import pure_work_remembered
from simulated_process import Process
from simulated_world import World, broken

from stream.feeds import load_feed
from stream.feeds.contract import RejectLimit

TURMOIL_SECONDS = 26.0
BUDGET_SECONDS = 120.0
"""Virtual time: some back-offs of ten seconds, a few restarts, generations of shards one by one."""
OUTAGE_SECONDS = (205.0, 260.0)
"""Longer than the stream keeps records."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run was: its hash tells whether two were the same."""

    seed: int
    hash: str
    records: int
    commits: int
    processes: int
    gaps: int
    faults: dict[str, int]


class FailedSeedError(AssertionError):
    """A run that broke an invariant, or that a part of the road did not survive."""


class Simulation:
    """One run."""

    def __init__(self, seed: int, *, keeps_lines: bool = False) -> None:
        contract = load_feed("trades")
        limit = RejectLimit(1.0, 1_000_000, 1_000_000)
        self.seed = seed
        self.world = World(seed, replace(contract, rejects=limit), keeps_lines=keeps_lines)
        self._random = self.world.random
        self._target = self._random.choice((1, 1, 1, 2))
        self._has_outage = self._random.random() < 0.12
        self._restart_at = 0.0
        self._processes: list[Process] = []
        self._trades: list[tuple[str, bytes, float]] = []
        self._ends_at = self.world.now + TURMOIL_SECONDS

    def run(self) -> Outcome:
        """Raises: BrokenInvariantError, or whatever a part of the road died of."""
        world = self.world
        world.act("producer", self._produce)
        world.act("chaos", self._wreak, after=self._random.uniform(0, 4))
        world.act("supervisor", self._supervise)
        world.run_for(TURMOIL_SECONDS)
        if self._has_outage:
            self._lose_time()
        self._calm_down()
        self._say_last_words()
        self._wait_until_caught_up()
        lake = world.lake()
        check_lake(world.truth, lake)
        for path in sorted(lake.objects):
            world.say(path)
        return Outcome(
            self.seed,
            world.trace.hash,
            sum(len(found) for found in world.truth.records.values()),
            len(lake.entries),
            len(self._processes),
            sum(len(entry.gaps) for entry in lake.entries),
            dict(sorted(world.trace.faults.items())),
        )

    @property
    def _running(self) -> list[Process]:
        return [process for process in self._processes if process.end is None]

    def _produce(self) -> float | None:
        if self.world.now > self._ends_at:
            return None
        for _ in range(self._random.choice((1, 2, 5))):
            key = f"key-{self._random.randrange(6)}"
            back_ms = self._random.choice((0, 0, 0, 150))
            self.world.put(self._payload(key), key, self.world.clock.now_ns() // 10**6 - back_ms)
        return self._random.expovariate(1.2)

    def _payload(self, key: str) -> bytes:
        """One to three messages; some are sent again, some are no trades."""
        return b"\n".join(self._message(key) for _ in range(self._random.choice((1, 1, 3))))

    def _message(self, key: str) -> bytes:
        luck = self._random.random()
        again = [m for k, m, at in self._trades[-60:] if k == key and at > self.world.now - 15]
        if luck < 0.15 and again:
            return self._random.choice(again)
        if luck < 0.20:
            return b"{no trade " + str(len(self._trades)).encode()
        message = {
            "venue": "sim",
            "symbol": key.upper(),
            "trade_id": f"{key}-{len(self._trades)}",
            "ts_event_ns": self.world.clock.now_ns() - 200_000_000,
            "price": -1.0 if luck < 0.24 else 100 + len(self._trades) / 4,
            "size": 2,
        }
        self._trades.append((key, orjson.dumps(message), self.world.now))
        return self._trades[-1][1]

    def _supervise(self) -> float:
        """Restarts what is over, as a service does."""
        if len(self._running) < self._target and self.world.now >= self._restart_at:
            self._start()
        return 0.7

    def _start(self) -> None:
        self._processes.append(Process(self.world, len(self._processes)))

    def _wreak(self) -> float | None:
        if self.world.now > self._ends_at:
            return None
        deeds = [self._kill, self._freeze, self.world.reshard, self._roll, self._rival]
        self._random.choices(deeds, (2, 2, 3, 1, 1))[0]()
        return self._random.expovariate(1 / 6)

    def _kill(self) -> None:
        if self._running:
            self._random.choice(self._running).die()

    def _freeze(self) -> None:
        if self._running:
            self._random.choice(self._running).freeze(self._random.uniform(1, 20))

    def _roll(self) -> None:
        """A rolling deployment: the new one starts before the old one ends."""
        if old := self._running:
            self._start()
            old[0].stop()

    def _rival(self) -> None:
        """One more than there should be, for as long as it lives."""
        self._start()

    def _lose_time(self) -> None:
        """Nobody reads for longer than the stream keeps records; it goes on being written."""
        seconds = self._random.uniform(*OUTAGE_SECONDS)
        self._restart_at = self.world.now + seconds
        for process in self._running:
            if self._random.random() < 0.5:
                process.freeze(seconds)
            else:
                process.die()
        for _ in range(self._random.choice((0, 1, 2))):
            self.world.run_for(self._random.uniform(0, 15))
            self.world.reshard()
            self._burst()
        self.world.run_for(max(0.0, self._restart_at - self.world.now - 20))
        self._burst()
        self.world.run_for(20)

    def _burst(self) -> None:
        for _ in range(4):
            key = f"key-{self._random.randrange(6)}"
            self.world.put(self._message(key), key)

    def _calm_down(self) -> None:
        """The last fault is over; what is frozen thaws, one too many is asked to stop."""
        self.world.weather.is_on = False
        for process in self._running:
            process.thaw()
        for process in self._running[self._target :]:
            process.stop()

    def _say_last_words(self) -> None:
        """One more record for each open shard: what was lost before it shows when it is read."""
        for info in self.world.stream.list_shards():
            if not info.is_closed:
                self.world.put(self._message("last"), "last", hash_key=info.first_hash_key)

    def _wait_until_caught_up(self) -> None:
        until = self.world.now + BUDGET_SECONDS
        while behind := self.world.left_behind():
            if self.world.now > until:
                raise broken(
                    f"not caught up {BUDGET_SECONDS:.0f} s after the last fault: {behind}; "
                    f"processes ended with {[p.end for p in self._processes][-4:]}"
                )
            self.world.run_for(2)
        self.world.run_for(6)  # gaps without slices are committed as well


def simulate(seed: int, *, keeps_lines: bool = False) -> Outcome:
    """Run one seed. Raises: FailedSeedError with the command that replays it."""
    simulation = Simulation(seed, keeps_lines=keeps_lines)
    with _luck_of(seed), pure_work_remembered():
        try:
            return simulation.run()
        except Exception as error:
            trace = simulation.world.trace
            raise FailedSeedError(
                f"seed {seed}: {type(error).__name__}: {error}\n"
                f"faults: {dict(sorted(trace.faults.items()))}\n"
                f"replay: python tests/simulation/replay.py {seed}"
                + "".join(f"\n{line}" for line in trace.lines)
            ) from error


@contextmanager
def _luck_of(seed: int) -> Iterator[None]:
    """Back-offs of the road draw from the process-wide source: from the seed as well."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
