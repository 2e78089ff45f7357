"""What waits to be sent: per key a queue in order, at most one record of a key out at a time.

Packs that wait for the same key are merged into one record when its turn comes; a record that
failed keeps its bytes and its place, and its key rests for a back-off with jitter. Pure: no I/O,
the caller says what time it is. Not here: calls, waiting, the spool (`publish`).
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from stream.producers.pack import Pack, merge


@dataclass(frozen=True, slots=True)
class PublishRule:
    """Limits of a call, of memory and of patience.

    Kinesis takes 500 records and 10 MiB a call; 1 MB is a second's worth of one shard, and a larger
    body holds up the event loop while it is encoded and signed.
    """

    max_records: int = 500
    max_call_bytes: int = 1_000_000
    max_record_bytes: int = 200_000
    max_calls: int = 4
    max_pending_bytes: int = 16_000_000
    backoff_seconds: float = 0.05
    max_backoff_seconds: float = 5.0
    spool_after_seconds: float = 10.0
    close_seconds: float = 2.0


@dataclass(slots=True)
class _Key:
    packs: deque[Pack] = field(default_factory=deque)
    in_flight: bool = False
    not_before: float = 0.0
    failures: int = 0


class Outbox:
    r"""Packs by key. `packs` and `bytes` count what waits and what is out.

    >>> box = Outbox(PublishRule(), random.Random(1))
    >>> for data in (b"1", b"2"):
    ...     box.add(Pack("a", data, 1))
    >>> [pack.data for pack in box.take_call(now=0.0)], box.take_call(now=0.0)
    ([b'1\n2'], [])
    """

    def __init__(self, rule: PublishRule, jitter: random.Random) -> None:
        self.bytes = 0
        self.packs = 0
        self._rule = rule
        self._jitter = jitter
        self._keys: dict[str, _Key] = {}
        self._ready: deque[str] = deque()

    def add(self, pack: Pack) -> None:
        """Queue a pack behind those of its key."""
        state = self._keys.setdefault(pack.key, _Key())
        state.packs.append(pack)
        self.bytes += pack.size
        self.packs += 1
        if len(state.packs) == 1 and not state.in_flight:
            self._ready.append(pack.key)

    def take_call(self, now: float) -> list[Pack]:
        """One record per ready key, within the limits of a call; keys take turns."""
        records: list[Pack] = []
        size = 0
        for _ in range(len(self._ready)):
            key = self._ready.popleft()
            state = self._keys[key]
            fits = size + state.packs[0].size <= self._rule.max_call_bytes or not records
            if state.not_before > now or not fits or len(records) == self._rule.max_records:
                self._ready.append(key)
                continue
            record = self._take_record(state, self._rule.max_call_bytes - size)
            state.in_flight = True
            size += record.size
            records.append(record)
        return records

    def stored(self, record: Pack) -> None:
        """A record that was taken is in the stream; its key may go on."""
        state = self._keys[record.key]
        state.in_flight, state.failures = False, 0
        self.bytes -= record.size
        self.packs -= 1
        if state.packs:
            self._ready.append(record.key)
        else:
            del self._keys[record.key]

    def failed(self, record: Pack, now: float) -> None:
        """A record that was taken is not in the stream: it goes back to the front of its key."""
        state = self._keys[record.key]
        state.packs.appendleft(record)
        state.in_flight = False
        state.failures += 1
        state.not_before = now + self._backoff(state.failures)
        self._ready.append(record.key)

    def clear(self) -> list[Pack]:
        """Hand over all packs that are not out, in order per key, and forget everything."""
        packs = [pack for state in self._keys.values() for pack in state.packs]
        self._keys.clear()
        self._ready.clear()
        self.bytes = self.packs = 0
        return packs

    def next_wait(self, now: float) -> float:
        """Seconds until a resting key may be tried again; at most 1."""
        waits = [self._keys[key].not_before - now for key in self._ready]
        return min(1.0, max(0.001, min(waits, default=1.0)))

    def _take_record(self, state: _Key, room: int) -> Pack:
        """Merge what waited; a record that failed before keeps its bytes."""
        packs = [state.packs.popleft()]
        limit = min(self._rule.max_record_bytes, room)
        size = packs[0].size
        while (
            not state.failures
            and state.packs
            and size + len(state.packs[0].data) + 1 <= limit
            and packs[-1].is_open
            and state.packs[0].is_open
        ):
            packs.append(state.packs.popleft())
            size += len(packs[-1].data) + 1
        record = merge(packs)
        self.packs -= len(packs) - 1
        self.bytes += record.size - sum(pack.size for pack in packs)
        return record

    def _backoff(self, failures: int) -> float:
        """Half to full of a doubling delay: retries of many keys do not come at once."""
        full = self._rule.backoff_seconds * 2.0 ** min(failures - 1, 20)
        return min(full, self._rule.max_backoff_seconds) * (0.5 + self._jitter.random() / 2)
