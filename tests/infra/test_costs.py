"""The bill: nothing in the graph is forgotten, and it adds up."""

from __future__ import annotations

from dataclasses import replace

import pytest

import costs
import prices
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
