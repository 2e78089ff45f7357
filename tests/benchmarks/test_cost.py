"""The cost model's arithmetic, on round prices and by hand."""

import pytest
from cost import (
    OPTIONS,
    Load,
    cost_emr,
    cost_firehose,
    cost_flink,
    cost_glue,
    cost_headrace,
    find_break_even,
    read_prices,
    take_measured,
)

PRICES = {
    "fargate": {"arm_vcpu_hour": 0.04, "arm_gb_hour": 0.01},
    "kinesis": {"shard_hour": 0.01, "million_put_units": 0.02},
    "s3": {"thousand_puts": 0.005},
    "glue": {"dpu_hour": 0.4, "million_catalog_requests": 1.0},
    "firehose": {"iceberg_gb": 0.1, "s3_gb": 0.05},
    "flink": {"kpu_hour": 0.1, "storage_gb_month": 0.0},
    "emr_serverless": {"vcpu_hour": 0.05, "gb_hour": 0.01},
    "measured": {"headrace": 2.0, "compaction": 2.5, "flink": 30.0, "spark": 20.0},
}
LOAD = Load(rate=100_000, message_bytes=100, pack=100, interval_seconds=10, utilisation=0.5)


def test_stream_is_shards_and_units_of_25_kb():
    # 10 MB/s are 10 shards; a record of 10 KB is one unit, 1,000 records/s are 3.6M units an hour.
    assert cost_headrace(LOAD, PRICES).stream == pytest.approx(10 * 0.01 + 3.6 * 0.02)


def test_headrace_pays_the_smallest_task_that_holds_its_cpu():
    # 0.1M/s at 2 CPU-s per million is 0.2 cores, 0.4 bought: a task of 0.5 vCPU and 1 GB.
    assert cost_headrace(LOAD, PRICES).compute == pytest.approx(0.5 * 0.04 + 1 * 0.01)


def test_requests_are_two_objects_a_shard_and_the_commit_each_interval():
    puts = 360 * (2 * 10 + 5)
    assert cost_headrace(LOAD, PRICES).requests == pytest.approx(puts / 1000 * 0.005 + 720 / 1e6)


def test_compaction_is_the_same_for_every_option():
    # 0.1M/s at 2.5 CPU-s per million: 0.25 vCPU-hours an hour, with 2 GB each.
    found = {option(LOAD, PRICES).compaction for option in OPTIONS}
    assert len(found) == 1
    assert found.pop() == pytest.approx(0.25 * (0.04 + 2 * 0.01))


def test_firehose_rounds_raw_records_up_to_5_kb_but_not_iceberg():
    small = Load(rate=1_000, message_bytes=100, pack=1)
    # 0.1 MB/s are 0.36 GB an hour; as records of 5 KB they are 18 GB.
    assert cost_firehose(small, PRICES).compute == pytest.approx(0.36 * 0.1 + 18 * 0.05)
    assert cost_firehose(LOAD, PRICES).compute == pytest.approx(36 * 0.1 + 36 * 0.05)


def test_flink_pays_whole_units_and_one_to_orchestrate():
    # 3 cores at 30 CPU-s per million, 6 bought.
    assert cost_flink(LOAD, PRICES).compute == pytest.approx(7 * 0.1)


def test_spark_pays_a_driver_and_its_executors():
    # 2 cores, 4 bought: one executor of 4 vCPUs with 16 GB, or two Glue workers of 2 vCPUs.
    driver = 0.05 + 4 * 0.01
    assert cost_emr(LOAD, PRICES).compute == pytest.approx(driver + 4 * 0.05 + 16 * 0.01)
    assert cost_glue(LOAD, PRICES).compute == pytest.approx(3 * 0.4 / 4)


def test_cost_per_million_is_the_hour_over_its_messages():
    cost = cost_flink(LOAD, PRICES)
    assert cost.per_million == pytest.approx(cost.hour / 360)
    assert cost.month == pytest.approx(cost.hour * 730)


def test_break_even_with_firehose_is_where_the_two_hours_cost_the_same():
    first, last = find_break_even(cost_firehose, LOAD, PRICES)
    assert last is None
    below, above = (
        Load(rate=first * factor, message_bytes=100, pack=100) for factor in (0.98, 1.02)
    )
    assert cost_headrace(below, PRICES).hour > cost_firehose(below, PRICES).hour
    assert cost_headrace(above, PRICES).hour < cost_firehose(above, PRICES).hour


def test_dear_headrace_is_cheaper_at_no_rate():
    dear = PRICES | {"fargate": {"arm_vcpu_hour": 1e6, "arm_gb_hour": 0.0}}
    assert find_break_even(cost_flink, LOAD, dear) == (None, None)


def test_measured_cpu_of_a_comparison_replaces_only_what_it_has():
    peers = {
        "contenders": [
            {"name": "headrace", "cpu_seconds_per_million": 1.5},
            {"name": "duckdb", "cpu_seconds_per_million": 3.0},
            {"name": "flink", "absent": "not installed"},
        ]
    }
    measured = take_measured(PRICES, peers)["measured"]
    assert measured == PRICES["measured"] | {"headrace": 1.5}


def test_committed_prices_serve_every_option_and_name_their_date():
    prices = read_prices()
    assert prices["date"].year >= 2026
    for option in OPTIONS:
        cost = option(Load(rate=1_000), prices)
        assert min(cost.stream, cost.compute, cost.requests, cost.compaction) > 0


@pytest.mark.parametrize("given", [{"rate": 0}, {"rate": 1, "utilisation": 1.1}])
def test_load_that_makes_no_sense_is_refused(given):
    with pytest.raises(ValueError, match="found"):
        Load(**given)
