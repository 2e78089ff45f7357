"""Replay simulated runs: `python tests/simulation/replay.py SEED [SEED ...] [--trace] [--count N]`.

Prints what each run was, and for a seed that fails the invariant that it broke; `--trace` prints
every call, fault and commit of it in order. `--count N`: N seeds from the given one on.
Exit code: 1 if a seed failed.
"""

from __future__ import annotations

import argparse
import logging
import time

from simulation import FailedSeedError, simulate


def main() -> int:
    """Parse the arguments, run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, nargs="+")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--count", type=int, default=1)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed, began = [], time.process_time()
    seeds = [seed + n for seed in asked.seed for n in range(asked.count)]
    for seed in seeds:
        try:
            print(simulate(seed, keeps_lines=asked.trace))
        except FailedSeedError as error:
            print(error)
            failed.append(seed)
    spent = time.process_time() - began
    print(f"{len(seeds)} seeds, {spent / len(seeds):.2f} CPU-s each; failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
