"""The job on Pathway, in its static mode: JSON lines to de-duplicated JSON lines, in one pass.

A line that is no JSON or has a wrong type is logged and gives an error value, which is left out;
nothing keeps the line. Prices are floats: it has no decimals. No days: a sink writes one file.
"""

from __future__ import annotations

import argparse
import os

from peers.job import Job, run


def prepare(options: argparse.Namespace) -> Job:
    """Import, build the graph."""
    import pathway as pw

    class Trade(pw.Schema):
        venue: str
        symbol: str
        trade_id: str
        kind: str = pw.column_definition(default_value="new")
        side: str = pw.column_definition(default_value="unknown")
        price: float
        size: float
        ts_event_ns: int
        known_at_ns: int | None = pw.column_definition(default_value=None)

    trades = pw.io.jsonlines.read(str(options.input), schema=Trade, mode="static")
    trades = trades.remove_errors()
    valid = trades.filter((pw.this.venue == "sim") & (pw.this.price > 0) & (pw.this.size > 0))
    valid = valid.with_columns(known_at_ns=pw.coalesce(pw.this.known_at_ns, pw.this.ts_event_ns))
    key = (valid.venue, valid.symbol, valid.trade_id, valid.kind, valid.known_at_ns)
    silver = valid.groupby(*key).reduce(
        *key,
        **{name: pw.reducers.any(valid[name]) for name in ("side", "price", "size", "ts_event_ns")},
    )
    pw.io.jsonlines.write(silver, str(options.output / "silver.jsonl"))

    def job() -> None:
        pw.run(monitoring_level=pw.MonitoringLevel.NONE, terminate_on_error=False)

    return job


if __name__ == "__main__":
    # It sends usage counts home unless told not to.
    os.environ["PATHWAY_MONITORING_SERVER"] = ""
    run(prepare)
