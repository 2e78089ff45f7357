"""The plan's arithmetic, on round limits and by hand."""

import pytest
from plan import Load, commit_seconds, plan_needs, plan_sizes, positions_bytes, read_limits

LIMITS = {
    "kinesis": {
        "shard_write_bytes": 1_000_000, "shard_read_bytes": 2_000_000, "shard_get_records": 5,
        "shards_of_account": 500,
    },
    "s3": {"prefix_puts": 3_500, "prefix_gets": 5_500},
    "glue": {"parameter_bytes": 512_000, "updates": 10},
    "fargate": {"task_vcpus": 16},
    "measured": {
        "cpu_seconds_per_million": 2.0, "compaction_seconds_per_million": 3.0,
        "commit_seconds": 0.01, "commit_seconds_per_snapshot": 0.00001,
        "commit_seconds_per_file": 0.001, "metadata_bytes_per_snapshot": 1_000,
        "manifest_bytes_per_file": 500,
    },
}  # fmt: skip
LOAD = Load(regions=1, kept_snapshots=500)


def needed(load: Load, limit: str) -> float:
    return next(need.needed for need in plan_needs(load, LIMITS) if need.limit.startswith(limit))


def test_one_region_of_a_thousand_shards_lacks_shards_first():
    first = plan_needs(LOAD, LIMITS)[0]
    assert (first.limit, first.share, first.binds_at) == ("shards of an account", 2.0, 500)


def test_a_slice_is_two_objects_per_window():
    # 1,000 shards / 2 s are 500 slices/s: 50 PUT/s in a feed's prefix, 1,000 in all.
    assert needed(LOAD, "S3 PUT, one prefix") == 50
    assert needed(LOAD, "S3 PUT, before") == 1_000


def test_commit_pays_for_its_files_and_the_retained_snapshots():
    # 100 shards of a table, 5 slices each in 10 s: 500 files; 0.01 + 500 x 0.00001 + 500 x 0.001.
    assert commit_seconds(LOAD, LIMITS["measured"]) == pytest.approx(0.515)
    assert plan_sizes(LOAD, LIMITS)["files_of_a_table_and_day"] == 500 * 8_640


def test_regions_share_nothing_and_consumers_share_a_shard():
    split = Load(regions=4, consumers=2)
    assert (split.shards_of_region, split.shards_of_table) == (250, 25)
    assert needed(split, "bytes read") == 2_000_000
    assert plan_sizes(split, LIMITS)["catch_up_factor"] == 1.0


def test_cpu_is_messages_by_measured_cost_over_utilisation():
    # 1 GB/s of 200 B are 5M messages/s: 10 CPU-s a second at half use are 20 vCPU, 2 tasks of 16.
    sizes = plan_sizes(LOAD, LIMITS)
    assert (sizes["dataflow_vcpus"], sizes["tasks_of_16_vcpus"]) == (20.0, 2)


def test_positions_grow_by_the_text_of_one():
    assert positions_bytes(20) - positions_bytes(19) == pytest.approx(235, abs=5)


def test_stated_limits_have_what_the_plan_reads():
    assert {name: set(LIMITS[name]) for name in LIMITS} == {
        name: set(values) for name, values in read_limits().items()
    }


def test_a_load_of_nothing_is_refused():
    with pytest.raises(ValueError, match="shards, window_seconds: must be above 0"):
        Load(shards=0, window_seconds=0)
