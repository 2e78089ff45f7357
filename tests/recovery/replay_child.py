"""A replay in a process of its own, with a decoder that refuses trades of some size.

    python replay_child.py SIZE FROM_MS TO_MS

Prints the report as JSON. The test kills it half-way; what it leaves must be all or nothing.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from batch import actions
from stream.feeds import load_feed
from stream.feeds.contract import Rule
from stream.settings import load_settings


def main() -> None:
    size, from_ms, to_ms = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    contract = load_feed("trades")

    def is_bad(rows) -> pa.Array:
        return pc.equal(rows["size"].cast(pa.float64()), size)

    fixed = replace(contract, rules=(*contract.rules, Rule("bad_value", "refused", is_bad)))
    actions.load_feed = lambda _: fixed
    report = actions.replay(load_settings(), "trades", from_ms, to_ms, apply=True)
    print(json.dumps({"commit": report.commit, "changed": report.changed_slices,
                      "slices": report.slices, "removed": report.rows_removed,
                      "seconds": report.seconds}))  # fmt: skip


if __name__ == "__main__":
    main()
