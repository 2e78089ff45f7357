"""The bill: nothing in the graph is forgotten, and it adds up."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest

import costs
import prices
from stream.settings import Settings
from stream.telemetry import METRICS, Instruments
from stream.telemetry.catalogue import COST_PARTS, STAGES
from stream.telemetry.emf import EmfLines
from synth import Graph

STREAM = "aws:kinesis/stream:Stream"


def test_every_type_of_resource_is_priced_or_said_to_cost_nothing(graph, graphs):
    assert costs.unpriced_types(graph) == []
    assert costs.unpriced_types(graphs.everything()) == []
    assert not set(costs.PRICED) & set(costs.UNPRICED)


def test_a_resource_that_nobody_has_priced_is_refused(graphs):
    dev = graphs.get("dev")
    planted = replace(dev.custom[-1], type="aws:msk/cluster:Cluster")
    with pytest.raises(costs.UnpricedError, match="aws:msk/cluster:Cluster"):
        costs.fixed_costs(Graph("dev", [*dev.resources, planted]))


def test_an_instance_without_a_price_is_refused(graphs):
    dev = graphs.get("dev")
    large = graphs.broken(dev, "aws:rds/instance:Instance", "database", instanceClass="db.x9.huge")
    with pytest.raises(costs.UnpricedError, match=r"db\.x9\.huge"):
        costs.fixed_costs(large)


def test_more_shards_cost_more_by_exactly_their_price(graphs):
    dev = graphs.get("dev")
    shards = dev.one(STREAM, "trades").inputs["shardCount"]
    more = graphs.broken(dev, STREAM, "trades", shardCount=shards + 3)
    before, after = (costs.totals(costs.fixed_costs(g))["Kinesis"] for g in (dev, more))
    each = prices.KINESIS_SHARD + prices.KINESIS_EXTENDED_SHARD
    assert after - before == pytest.approx(3 * each)


def test_each_dataflow_costs_its_exported_series(graphs):
    dev, type_ = graphs.get("dev"), "aws:ecs/taskDefinition:TaskDefinition"
    (container,) = json.loads(dev.one(type_, "news-0").inputs["containerDefinitions"])
    container["environment"] = [
        pair for pair in container["environment"] if pair["name"] != "HEADRACE_METRICS_EXPORT"
    ]
    mute = graphs.broken(dev, type_, "news-0", containerDefinitions=json.dumps([container]))
    saved = _area(dev, "CloudWatch") - _area(mute, "CloudWatch")
    assert saved == pytest.approx(costs.series_of_a_dataflow() * prices.CUSTOM_METRIC)


def test_series_of_a_dataflow_are_those_that_its_exporter_writes():
    """Run over the real exporter: every metric said once, without what only a fault brings."""
    live = Instruments()
    values = {"stage": STAGES, "part": COST_PARTS, "shard": ("a", "b"), "feed": ("trades",)}
    for metric in METRICS:
        if "reason" not in metric.labels:
            for chosen in product(*(values[name] for name in metric.labels)):
                labels = dict(zip(metric.labels, chosen, strict=True))
                if metric.kind == "counter":
                    live.counter(metric.name, **labels).inc()
                elif metric.kind == "gauge":
                    live.gauge(metric.name, **labels).set(1)
                else:
                    live.histogram(metric.name, **labels).observe(1)
    written = [
        metric
        for line in map(json.loads, EmfLines(live.registry, "trades").build(0))
        for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    ]
    assert len(written) == costs.series_of_a_dataflow()


def test_prices_of_the_runtime_are_those_of_this_program():
    """`headrace_cost_usd_total` and this bill must not disagree."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    hour = prices.HOURS
    assert defaults["price_vcpu_hour_usd"] * hour == pytest.approx(prices.FARGATE_ARM_VCPU)
    assert defaults["price_memory_gb_hour_usd"] * hour == pytest.approx(prices.FARGATE_ARM_GB)
    assert defaults["price_shard_hour_usd"] * hour == pytest.approx(prices.KINESIS_SHARD)


def test_spot_is_cheaper_and_a_standby_database_costs_twice(graphs):
    dev = graphs.get("dev")
    strategy = [{"capacityProvider": "FARGATE", "weight": 1}]
    steady = graphs.broken(
        dev, "aws:ecs/service:Service", "trades-0", capacityProviderStrategies=strategy
    )
    assert _area(steady, "Fargate") > _area(dev, "Fargate")
    standby = graphs.broken(dev, "aws:rds/instance:Instance", "database", multiAz=True)
    assert _area(standby, "PostgreSQL") == pytest.approx(2 * _area(dev, "PostgreSQL"))


def test_the_budget_of_a_stack_covers_what_it_costs_at_rest(graph, settings_of):
    fixed = sum(line.total for line in costs.fixed_costs(graph))
    assert 0 < fixed < settings_of(graph.stack)["alerts"]["monthly_budget_usd"]


def test_the_table_has_a_row_per_area_and_sums(graphs):
    found = {stack: costs.totals(costs.fixed_costs(graphs.get(stack))) for stack in ("dev", "prod")}
    lines = costs.table(found).splitlines()
    assert lines[0] == "| USD a month | dev | prod |"
    assert len(lines) == 3 + len(set(found["dev"]) | set(found["prod"]))
    assert f"**{sum(found['prod'].values()):,.0f}**" in lines[-1]


def _area(graph: Graph, area: str) -> float:
    return costs.totals(costs.fixed_costs(graph))[area]
