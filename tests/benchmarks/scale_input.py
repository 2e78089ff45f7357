"""The input of `scale.py`: one million trades, as many shards as wanted, repeated as time goes on.

The same messages are written for every number of shards, each trade always to the same one and the
shards of one size. `Lanes` reads them again and again, 1,000 s later each time: the sizes to
measure need no files, and what reading and moving them costs is known and left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from trade_files import RATE, is_utf8, pack_records

if TYPE_CHECKING:
    from stream.slices import Slice

FIRST_SECONDS = 1_764_000
"""The first seven digits of every time in the files: all lie within these 1,000 s."""
START_NS = (FIRST_SECONDS * 1_000 + 700) * 10**9
"""Late messages are up to 600 s older."""
MOST_MESSAGES = 200 * RATE


def write_input(folder: Path, messages: int, layouts: Sequence[tuple[int, int]]) -> None:
    """Write the trades once per layout: (shards, messages of a slice) -> `folder/<shards>/`.

    Raises: ValueError when their times would leave the 1,000 s.
    """
    from stream.producers.simulate import SimulationRule, Simulator

    if messages > MOST_MESSAGES:
        raise ValueError(f"{messages:,} messages: at most {MOST_MESSAGES:,}; ask for more copies")
    rule = SimulationRule(venue_shapes=0)
    simulator = Simulator("trades", seed=7, start_ns=START_NS, rate=RATE, rule=rule)
    lines = [(crc32(_trade(line) or key.encode()), line) for key, line in simulator.take(messages)]
    for shards, slice_messages in layouts:
        (folder / str(shards)).mkdir(parents=True)
        of_shard: list[list[bytes]] = [[] for _ in range(shards)]
        for number, line in lines:
            if line and is_utf8(line):
                of_shard[number % shards].append(line)
        for shard, mine in enumerate(of_shard):
            slices = max(len(mine) // slice_messages, 1)  # of one size: none is a rest
            ends = [len(mine) * n // slices for n in range(slices + 1)]
            for number, (at, end) in enumerate(pairwise(ends)):
                path = folder / str(shards) / f"{shard:03d}-{number:05d}.jsonl"
                path.write_bytes(b"\n".join(mine[at:end]) + b"\n")


def _trade(line: bytes) -> bytes:
    """What names the trade: a correction goes where the trade went."""
    return line.partition(b'"trade_id":')[2].partition(b",")[0]


class Lanes:
    """A lane a shard; each yields its files `copies` times."""

    def __init__(self, folder: Path, copies: int, part: int = 0, parts: int = 1) -> None:
        """`part` of `parts`: every so many shards, for one of several processes."""
        shards = sorted({path.name[:3] for path in folder.iterdir()})[part::parts]
        self._files = [sorted(folder.glob(f"{shard}-*")) for shard in shards]
        self.names = [f"lane-{shard}" for shard in shards]
        self._copies = copies
        self._done = [0] * len(shards)
        self._last: list[str | None] = [None] * len(shards)
        self.reading_seconds = 0.0
        """CPU time of this thread in making slices out of files."""

    def has_shards(self, lane: int) -> bool:
        return not self.is_finished(lane)

    def is_finished(self, lane: int) -> bool:
        return self._done[lane] >= len(self._files[lane]) * self._copies

    def poll(self, lane: int) -> Slice | None:
        if self.is_finished(lane):
            return None
        began = time.thread_time()
        item = self._read(lane, self._done[lane])
        self._done[lane] += 1
        self._last[lane] = item.last
        self.reading_seconds += time.thread_time() - began
        return item

    def _read(self, lane: int, number: int) -> Slice:
        from stream.slices import ShardRef, Slice

        files = self._files[lane]
        copy, at = divmod(number, len(files))
        data = files[at].read_bytes()
        if copy:
            data = data.replace(b":%d" % FIRST_SECONDS, b":%d" % (FIRST_SECONDS + copy))
        shard = ShardRef("trades", "scale.00000000", f"shardId-{self.names[lane][5:]:0>12}")
        return Slice(shard, self._last[lane], pack_records(data, number))


def expected_figures(folder: Path) -> dict[str, Any]:
    """What one copy must become, by DuckDB's own reading of the files.

    `messages`, `rejected`; `all` and `distinct` rows as (count, sum of prices, sum of sizes).
    """
    import duckdb

    sql = duckdb.connect(":memory:")
    sql.execute(_TYPED.format(source=folder / "*.jsonl"))
    good = "typed WHERE is_good"
    count, rejected = _one_row(sql, "count(*), count(*) FILTER (NOT is_good)", "typed")
    sums = "count(*), sum(price)::VARCHAR, sum(size)::VARCHAR"
    return {
        "messages": count,
        "rejected": rejected,
        "all": _one_row(sql, sums, good),
        "distinct": _one_row(sql, sums, f"(SELECT DISTINCT * FROM {good})"),
    }


def _one_row(sql: Any, found: str, place: str) -> list[Any]:
    return list(sql.execute(f"SELECT {found} FROM {place}").fetchone())


_TYPED = """
CREATE TABLE typed AS
  SELECT *,
         coalesce(venue = 'sim' AND symbol IS NOT NULL AND trade_id IS NOT NULL AND price > 0
                  AND size > 0 AND ts_event_ns IS NOT NULL, false) AS is_good
  FROM (
    SELECT r.venue, r.symbol, r.trade_id, coalesce(r.kind, 'new') AS kind, r.ts_event_ns,
           coalesce(r.known_at_ns, r.ts_event_ns) AS known_at_ns, r.side,
           try_cast(r.price::VARCHAR AS DECIMAL(18,8)) AS price,
           try_cast(r.size::VARCHAR AS DECIMAL(18,8)) AS size
    FROM (SELECT from_json(try_cast(line AS JSON), '{{
      "venue": "VARCHAR", "symbol": "VARCHAR", "trade_id": "VARCHAR", "kind": "VARCHAR",
      "ts_event_ns": "BIGINT", "price": "JSON", "size": "JSON", "side": "VARCHAR",
      "known_at_ns": "BIGINT"}}') AS r
      FROM read_csv('{source}', columns={{'line': 'VARCHAR'}}, delim='\\x01', quote='', escape='',
                    header=false, auto_detect=false, max_line_size=1000000)));
"""
