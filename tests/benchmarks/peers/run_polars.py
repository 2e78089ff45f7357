"""The job on Polars: every file at once, lazily, on all threads.

`str.json_decode` and `read_ndjson` fail as a whole on one malformed line or one wrong type, so that
a line has to be looked at more than once: with a JSON path for each number, which gives null for
what is no JSON, and once more to decode those that passed.
"""

from __future__ import annotations

import argparse

from peers.job import Job, run

PRICES = ("price", "size")


def prepare(options: argparse.Namespace) -> Job:
    """Import; Polars starts its threads at the first query."""
    import polars as pl

    price = pl.Decimal(18, 8)
    fields = pl.Struct({
        **dict.fromkeys(("venue", "symbol", "trade_id", "kind", "side"), pl.String),
        **dict.fromkeys(("ts_event_ns", "known_at_ns"), pl.Int64),
        **dict.fromkeys(("price", "size"), pl.Float64),
    })  # fmt: skip

    def job() -> None:
        raw = pl.scan_csv(
            options.input / "*.jsonl",
            has_header=False,
            separator="\x01",
            quote_char=None,
            schema={"line": pl.String},
        ).collect()
        raw.write_parquet(options.output / "bronze.parquet", compression_level=1)
        price_text, size_text = (pl.col("line").str.json_path_match(f"$.{n}") for n in PRICES)
        is_json = pl.all_horizontal(
            text.cast(pl.Float64, strict=False).is_not_null() for text in (price_text, size_text)
        )
        typed = (
            raw.lazy()
            .with_columns(is_json=is_json)
            .with_columns(found=pl.when("is_json").then("line").str.json_decode(fields))
            .unnest("found")
            .with_columns(
                pl.col("price", "size").cast(price, strict=False),
                kind=pl.col("kind").fill_null("new"),
                side=pl.col("side").fill_null("unknown"),
                known_at_ns=pl.col("known_at_ns").fill_null(pl.col("ts_event_ns")),
            )
            .with_columns(
                is_valid=(
                    (pl.col("venue") == "sim")
                    & pl.col("symbol").is_not_null()
                    & pl.col("trade_id").is_not_null()
                    & pl.col("ts_event_ns").is_not_null()
                    & (pl.col("price") > 0)
                    & (pl.col("size") > 0)
                ).fill_null(value=False)
            )
            .collect()
        )
        refused = typed.filter(~pl.col("is_valid")).select("line")
        refused.write_parquet(options.output / "quarantine.parquet")
        silver = (
            typed.lazy()
            .filter("is_valid")
            .drop("line", "is_json", "is_valid")
            .unique(["venue", "symbol", "trade_id", "kind", "known_at_ns"], keep="any")
            .with_columns(ts_event=pl.from_epoch("ts_event_ns", "ns").cast(pl.Datetime("us")))
            .with_columns(day=pl.col("ts_event").dt.date())
            .sort("symbol", "ts_event_ns")
            .collect()
        )
        for (day,), rows in silver.partition_by("day", as_dict=True).items():
            folder = options.output / "silver" / f"day={day}"
            folder.mkdir(parents=True)
            rows.drop("day").write_parquet(folder / "0.parquet", compression_level=1)

    return job


if __name__ == "__main__":
    run(prepare)
