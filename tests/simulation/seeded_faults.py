"""Faults from a seed, at every call that a process makes: to the stream, the store, the catalog.

A call may be refused before its effect, lose its answer after it, take long (everybody else goes
on meanwhile, in the same thread), answer an older state, or be the last thing its process does.
Whatever is drawn goes into the trace, whose hash tells whether two runs were the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any, Protocol, TypeVar

from memory_tables import MemoryTable

from stream.errors import RetryableError, StoreUnavailableError, ThrottledError
from stream.lake.newest import NewestRead
from stream.lake.store import ObjectInfo, Store
from stream.sources import ExpiredCursorError, ReadResult, ShardInfo, Start
from stream.sources.memory import MemoryReader

Result = TypeVar("Result")
WRITES = ("put", "put_once", "commit")


class ProcessDiedError(BaseException):
    """SIGKILL: unwinds the process; whatever it still tries to reach raises this again."""


@dataclass(slots=True)
class Weather:
    """How likely a call fails, per kind of fault. Off: nothing is drawn."""

    refused: float = 0.0
    lost: float = 0.0
    slow: float = 0.0
    stale: float = 0.0
    expired: float = 0.0
    deadly: float = 0.0
    deaths_left: int = 0
    is_on: bool = True

    @classmethod
    def of(cls, random: Random) -> Weather:
        """Fair, changeable or foul, kind by kind."""
        return cls(
            refused=random.choice((0.0, 0.01, 0.03)),
            lost=random.choice((0.0, 0.02, 0.05)),
            slow=random.choice((0.0, 0.01, 0.05)),
            stale=random.choice((0.0, 0.0, 0.2)),
            expired=random.choice((0.0, 0.02, 0.1)),
            deadly=random.choice((0.0, 0.02, 0.06)),
            deaths_left=4,
        )


@dataclass(slots=True)
class Trace:
    """What happened, in order: a hash, the counts of faults, and the lines if they are wanted."""

    keeps_lines: bool = False
    lines: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    _digest: Any = field(default_factory=sha256)

    def add(self, now_ns: int, line: str) -> None:
        text = f"{now_ns / 1e9:.3f} {line}"
        self._digest.update(text.encode() + b"\n")
        if self.keeps_lines:
            self.lines.append(text)

    def count(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1

    @property
    def hash(self) -> str:
        return str(self._digest.hexdigest())


class Host(Protocol):
    """The process that makes the calls, as the gate sees it."""

    name: str
    is_dead: bool

    def wait(self, seconds: float) -> None:
        """Everybody else goes on for so long."""
        ...

    def die(self) -> None: ...


class Gate:
    """Everything that a process asks of the world goes through here."""

    def __init__(
        self, host: Host, weather: Weather, random: Random, trace: Trace, now: Any
    ) -> None:
        self._host, self._weather, self._random = host, weather, random
        self._trace, self._now = trace, now

    def call(self, verb: str, what: str, effect: Callable[[], Result]) -> Result:
        """Raises: RetryableError (perhaps after the effect), ProcessDiedError."""
        self._check_alive()
        is_write = verb in WRITES
        fault = self._draw(verb)
        if fault == "slow":
            self._wait()
        if fault == "refused":
            self._note(verb, what, fault)
            raise self._error(verb, what)
        if fault == "died before":
            self._die(verb, what, fault)
        result = effect()
        if fault == "died after":
            self._die(verb, what, fault)
        if fault == "slow" and is_write:
            self._wait()
        self._note(verb, what, fault)
        if fault == "lost":
            raise StoreUnavailableError(f"{verb} {what}: the answer was lost")
        return result

    def is_due(self, chance: float, fault: str) -> bool:
        """Whether a fault of the caller's own kind strikes."""
        if not self._weather.is_on or self._random.random() >= chance:
            return False
        self._trace.count(fault)
        return True

    def _draw(self, verb: str) -> str:
        weather, is_write = self._weather, verb in WRITES
        if not weather.is_on:
            return ""
        luck = self._random.random()
        chances = {"refused": weather.refused, "slow": weather.slow}
        if is_write:
            deadly = weather.deadly if weather.deaths_left > 0 else 0.0
            chances |= {"lost": weather.lost, "died before": deadly / 2, "died after": deadly / 2}
            chances["slow"] *= 4
            if verb == "commit":
                chances["lost"] *= 4
            else:  # the client tries again before its process ends
                chances["refused"] /= 4
        for fault, chance in chances.items():
            if luck < chance:
                self._trace.count(fault)
                return fault
            luck -= chance
        return ""

    def _error(self, verb: str, what: str) -> RetryableError:
        is_throttle = verb in {"read", "list_shards"} and self._random.random() < 0.5
        kind = ThrottledError if is_throttle else StoreUnavailableError
        return kind(f"{verb} {what}: refused")

    def _wait(self) -> None:
        self._host.wait(self._random.choice((0.05, 0.5, 3.0, 9.0)))
        self._check_alive()

    def _die(self, verb: str, what: str, fault: str) -> None:
        self._note(verb, what, fault)
        self._weather.deaths_left -= 1
        self._host.die()
        raise ProcessDiedError

    def _note(self, verb: str, what: str, fault: str) -> None:
        self._trace.add(self._now(), f"{self._host.name} {verb} {what} {fault}".rstrip())

    def _check_alive(self) -> None:
        if self._host.is_dead:
            raise ProcessDiedError


class FaultyStore(Store):
    """The lake's objects as one process reaches them. `on_write`: path, old and new bytes, verb."""

    def __init__(
        self, real: Store, gate: Gate, on_write: Callable[[str, bytes | None, bytes, str], None]
    ) -> None:
        super().__init__(real.places)
        self._real, self._gate, self._on_write = real, gate, on_write

    def put_once(self, path: str, data: bytes) -> bool:
        def effect() -> bool:
            before = self._real.get(path)
            is_new = self._real.put_once(path, data)
            self._on_write(path, before, data if is_new else before or b"", "put_once")
            return is_new

        return self._gate.call("put_once", path, effect)

    def put(self, path: str, data: bytes) -> None:
        def effect() -> None:
            self._on_write(path, self._real.get(path), data, "put")
            self._real.put(path, data)

        self._gate.call("put", path, effect)

    def get(self, path: str) -> bytes | None:
        return self._gate.call("get", path, lambda: self._real.get(path))

    def get_many(self, paths: list[str], threads: int = 8) -> Iterator[bytes | None]:
        return (self.get(path) for path in paths)

    def find(self, path: str) -> ObjectInfo | None:
        return self._gate.call("find", path, lambda: self._real.find(path))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        def effect() -> list[ObjectInfo]:
            return sorted(self._real.list(prefix), key=lambda info: info.path)

        return iter(self._gate.call("list", prefix, effect))

    def delete(self, path: str) -> None:
        raise AssertionError(f"the road deletes {path}")


class FaultyTable(MemoryTable):
    """A handle on a table as one process reaches it; a refresh may answer an older state."""

    def __init__(
        self, held: Any, gate: Gate, weather: Weather, random: Random, newest: NewestRead
    ) -> None:
        """`newest`: as the real handles of a process share it."""
        super().__init__(held)
        self._gate, self._weather, self._random, self._newest = gate, weather, random, newest

    def refresh(self) -> None:
        def effect() -> None:
            versions = self._held.versions[-3:]
            is_stale = self._gate.is_due(self._weather.stale, "stale")
            self._move_to(self._random.choice(versions) if is_stale else versions[-1])

        def load() -> tuple[str, int]:
            self._gate.call("refresh", self.name, effect)
            return self.name, self._at.number

        self._newest.read(self.name, load)

    def replace(self, remove: Any, add: Any, properties: Any, summary: Any) -> None:
        def effect() -> None:
            MemoryTable.replace(self, remove, add, properties, summary)

        before = self._at
        try:
            self._gate.call("commit", self.name, effect)
        except RetryableError:
            self._at = before  # whether it landed, nobody has told this handle
            raise
        self._newest.note(self.name, self._at.number)


class FaultyReader(MemoryReader):
    """The stream as one process reaches it."""

    def __init__(self, stream: Any, gate: Gate, weather: Weather) -> None:
        super().__init__(stream)
        self._gate, self._weather = gate, weather

    def list_shards(self) -> list[ShardInfo]:
        return self._gate.call("list_shards", "", super().list_shards)

    def open_shard(self, shard: str, start: Start) -> str:
        effect = super().open_shard
        return self._gate.call("open_shard", shard, lambda: effect(shard, start))

    def read(self, shard: str, cursor: str, limit: int = 10_000) -> ReadResult:
        effect = super().read

        def read() -> ReadResult:
            if self._gate.is_due(self._weather.expired, "expired"):
                raise ExpiredCursorError(shard)
            return effect(shard, cursor, limit)

        return self._gate.call("read", shard, read)

    def first_sequence_number(self, shard: str) -> str | None:
        effect = super().first_sequence_number
        return self._gate.call("first_sequence_number", shard, lambda: effect(shard))


class Uploads(Executor):
    """Runs what is submitted in this thread, now or later, in an order of its own.

    What nobody has waited for when the process dies has not happened.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future = _Awaited(self)
        self._waiting.append((future, lambda: work(*args, **named)))
        if self._random.random() < 0.3:
            self.run_one()
        return future

    def run_one(self) -> None:
        future, work = self._waiting.pop(self._random.randrange(len(self._waiting)))
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised to whoever waits
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._waiting.clear()


class _Awaited(Future[Any]):
    def __init__(self, uploads: Uploads) -> None:
        super().__init__()
        self._uploads = uploads

    def result(self, timeout: float | None = None) -> Any:
        while not self.done():
            self._uploads.run_one()
        return super().result(timeout)
