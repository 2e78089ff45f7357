"""The job on PySpark Structured Streaming: three queries, trigger availableNow, one local JVM.

Tuned: the JSON source with a schema parses a line once (`from_json` in a select is copied into the
filter by the optimiser, seven parses a line), two shuffle partitions instead of 200, two threads.
The JSON source does not keep a line's text, so Bronze reads the lines again, and so does
quarantine, which parses them in a lambda: once, too. Each query has a checkpoint and an
exactly-once file sink. `dropDuplicatesWithinWatermark` looks back the job's horizon. A trigger
takes a million lines.
"""

from __future__ import annotations

import argparse

from peers.job import HORIZON_MINUTES, Job, run

SCHEMA = (
    "venue STRING, symbol STRING, trade_id STRING, kind STRING, side STRING, "
    "price DECIMAL(18, 8), size DECIMAL(18, 8), ts_event_ns BIGINT, known_at_ns BIGINT"
)
IS_VALID = (
    "{t}venue = 'sim' AND {t}symbol IS NOT NULL AND {t}trade_id IS NOT NULL "
    "AND {t}ts_event_ns IS NOT NULL AND {t}price > 0 AND {t}size > 0"
)
FILES_A_TRIGGER = 20


def prepare(options: argparse.Namespace) -> Job:
    """Import and start the JVM with its session."""
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master(f"local[{options.threads}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "4g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", options.threads)
        .config("spark.sql.parquet.compression.codec", "zstd")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.warehouse.dir", str(options.output / "warehouse"))
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    source = str(options.input)

    def write(rows, name, *partitions):
        return (
            rows.writeStream.format("parquet")
            .option("path", str(options.output / name))
            .option("checkpointLocation", str(options.output / "checkpoints" / name))
            .partitionBy(*partitions)
            .trigger(availableNow=True)
            .start()
        )

    def job() -> None:
        reader = spark.readStream.option("maxFilesPerTrigger", FILES_A_TRIGGER)
        text = reader.text(source)
        queries = [write(text, "bronze")]
        silver = (
            reader.schema(SCHEMA)
            .json(source)
            .where(IS_VALID.format(t=""))
            .selectExpr(
                "venue", "symbol", "trade_id", "price", "size", "ts_event_ns",
                "coalesce(kind, 'new') AS kind", "coalesce(side, 'unknown') AS side",
                "coalesce(known_at_ns, ts_event_ns) AS known_at_ns",
                "timestamp_micros(ts_event_ns div 1000) AS ts_event",
                "to_date(timestamp_micros(ts_event_ns div 1000)) AS day",
            )
            .withWatermark("ts_event", f"{HORIZON_MINUTES} minutes")
            .dropDuplicatesWithinWatermark(["venue", "symbol", "trade_id", "kind", "known_at_ns"])
        )  # fmt: skip
        queries.append(write(silver, "silver", "day"))
        parsed = f"array(from_json(value, '{SCHEMA}'))"
        is_valid = f"exists({parsed}, t -> {IS_VALID.format(t='t.')})"
        refused = text.where(f"NOT coalesce({is_valid}, false)")
        queries.append(write(refused.withColumnRenamed("value", "line"), "quarantine"))
        for query in queries:
            query.awaitTermination()

    return job


if __name__ == "__main__":
    run(prepare)
