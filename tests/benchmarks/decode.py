"""Measure decoding: CPU seconds of one thread per million messages, by message shape and dirt.

    python tests/benchmarks/decode.py [--lines 50000] [--repeat 7]

Slices are generated from a seed; the best of the repeats is printed, because a shared machine
only ever adds time. `strict` is the per-message reference on a part of the same slice.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from stream.decode import decode_records
from stream.feeds import load_feed
from stream.slices import RECORD_SCHEMA

START_NS = 1_764_000_000_000_000_000
ARRIVAL_NS = START_NS + 3_600_000_000_000
BAD = (
    b"",
    b'{"venue":"sim","symbol":',
    b"\xff\xfe not text",
    b'{"venue":"sim","symbol":"ACME","trade_id":"1","ts_event_ns":1764000000000000000,"price":NaN,"size":1}',
    b'{"venue":"sim","symbol":"ACME","trade_id":"7","kind":"new","ts_event_ns":1764000000000000000,'
    b'"price":"101.25","size":10,"side":"buy"}',
    b'{"venue":"sim","symbol":"ACME","trade_id":"8","kind":"new","ts_event_ns":1764000000000000000,'
    b'"price":-101.25,"size":10,"side":"buy"}',
    b'{"venue":"nowhere","symbol":"ACME","trade_id":"9","kind":"new",'
    b'"ts_event_ns":1764000000000000000,"price":101.25,"size":10,"side":"buy"}',
    b'{"venue":"sim","venue":"sim"}',
)


def make_lines(count: int, seed: int) -> dict[str, list[bytes]]:
    """Messages of the four main shapes, same trades in each."""
    rng = np.random.default_rng(seed)
    symbols = [f"S{i:03d}" for i in range(200)]
    symbol = [symbols[i] for i in (rng.zipf(1.3, count) % 200)]
    price = np.round(rng.lognormal(4, 1, count) + 1, 2).tolist()
    size = rng.integers(1, 5000, count).tolist()
    ts = (START_NS + np.cumsum(rng.integers(1, 50_000, count))).tolist()
    iso = np.datetime_as_string(np.array(ts, "datetime64[ns]").astype("datetime64[us]")).tolist()
    side = ["buy" if b else "sell" for b in rng.random(count) < 0.5]
    trade = rng.integers(10**8, 10**9, count).tolist()
    order = "132fb6ae-456b-4654-b4e0-d681ac05cea1"
    rows = list(zip(symbol, price, size, ts, iso, side, trade, strict=True))
    return {
        "canonical": [
            f'{{"venue":"sim","symbol":"{s}","trade_id":"{t}","kind":"new","ts_event_ns":{ns},'
            f'"price":{p!r},"size":{q},"side":"{d}","conditions":"@","seq":{t}}}'.encode()
            for s, p, q, ns, _, d, t in rows
        ],
        "coinbase": [
            f'{{"type":"match","trade_id":{t},"maker_order_id":"{order}","taker_order_id":"{order}",'
            f'"side":"{d}","size":"{q}.00000000","price":"{p!r}","product_id":"{s}-USD",'
            f'"sequence":{t},"time":"{at}Z"}}'.encode()
            for s, p, q, _, at, d, t in rows
        ],
        "binance": [
            f'{{"e":"trade","E":{ns // 1_000_000},"s":"{s}USDT","t":{t},"p":"{p:.8f}",'
            f'"q":"{q}.00000000","T":{ns // 1_000_000},"m":{"true" if d == "buy" else "false"},'
            '"M":true}'.encode()
            for s, p, q, ns, _, d, t in rows
        ],
        "kraken_v2": [
            f'{{"channel":"trade","type":"update","data":[{{"symbol":"{s}/USD","side":"{d}",'
            f'"price":{p!r},"qty":{q}.5,"ord_type":"market","trade_id":{t},'
            f'"timestamp":"{at}Z"}}]}}'.encode()
            for s, p, q, _, at, d, t in rows
        ],
    }


def make_records(lines: list[bytes], per_record: int) -> pa.RecordBatch:
    """Pack lines into records."""
    payloads = [b"\n".join(lines[i : i + per_record]) for i in range(0, len(lines), per_record)]
    count = len(payloads)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(payloads, pa.binary()),
            pa.array([str(i) for i in range(count)]),
            pa.array([0] * count, pa.int32()),
            pa.array(["key"] * count),
            pa.array([ARRIVAL_NS] * count, pa.int64()),
        ],
        schema=RECORD_SCHEMA,
    )


def spoil(lines: list[bytes], share: float, seed: int) -> list[bytes]:
    """Replace a share of the lines by bad ones."""
    rng = np.random.default_rng(seed)
    spoiled = list(lines)
    for n, i in enumerate(rng.choice(len(lines), int(len(lines) * share), replace=False).tolist()):
        spoiled[i] = BAD[n % len(BAD)] or b"x"
    return spoiled


def best_seconds(run: Callable[[], object], repeat: int) -> float:
    """Least thread CPU time of some runs, after a warm-up."""
    run()
    times = []
    for _ in range(repeat):
        began = time.thread_time()
        run()
        times.append(time.thread_time() - began)
    return min(times)


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    shapes = make_lines(arguments.lines, seed=1)
    mixed = [shapes[name][i] for i in range(arguments.lines) for name in [list(shapes)[i % 4]]]
    cases = {
        "canonical, 25 lines a record": (shapes["canonical"], 25),
        "canonical, 1 line a record": (shapes["canonical"], 1),
        "canonical, 1 % bad": (spoil(shapes["canonical"], 0.01, 2), 25),
        "coinbase match": (shapes["coinbase"], 25),
        "binance trade": (shapes["binance"], 25),
        "kraken v2 trade": (shapes["kraken_v2"], 25),
        "four shapes mixed": (mixed, 25),
    }
    contract = load_feed("trades")
    print(
        f"{arguments.lines} messages a slice, pyarrow {pa.__version__}, best of {arguments.repeat}"
    )
    for name, (lines, per_record) in cases.items():
        records = make_records(lines, per_record)
        decoded = decode_records(contract, records)
        seconds = best_seconds(lambda r=records: decode_records(contract, r), arguments.repeat)
        size = sum(map(len, lines)) / len(lines)
        print(
            f"{name:30s} {seconds / len(lines) * 1e6:6.3f} CPU-s/M  {size:4.0f} B a message  "
            f"{decoded.rows.num_rows} rows, {decoded.rejects.num_rows} rejects"
        )
    part = make_records(shapes["canonical"][:5_000], 25)
    seconds = best_seconds(lambda: decode_records(contract, part, strict_only=True), 2)
    print(f"{'canonical, strict':30s} {seconds / 5_000 * 1e6:6.3f} CPU-s/M")


if __name__ == "__main__":
    main()
