"""Container definitions and policies, text to Pulumi, through the schemas of CloudFormation."""

from __future__ import annotations

import pytest

import synth
from judges.cloudformation import CONVERSIONS, lint_resources, template
from judges.plant import add_statement, find, in_container, plant, put

pytestmark = pytest.mark.slow  # importing cfn-lint takes 3 s, a stack 2.5 s

TASK = "aws:ecs/taskDefinition:TaskDefinition"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
UNKNOWN_ACTION = {"Effect": "Allow", "Action": "kinesis:GetRecordz", "Resource": "*"}
UNKNOWN_FIELD = {"Effect": "Allow", "Actions": "kinesis:GetRecords", "Resource": "*"}


@pytest.mark.parametrize("stack", synth.STACKS)
def test_the_json_of_a_stack_is_valid(graphs, stack):
    assert lint_resources(graphs.get(stack).custom) == []


def test_the_json_of_every_option_is_valid(graphs):
    assert lint_resources(graphs.everything().custom) == []


def test_every_kind_of_json_is_in_the_template(graphs):
    graph = graphs.everything()
    there = {resource.type for resource in graph.custom} & set(CONVERSIONS)
    assert there == set(CONVERSIONS)
    made = template(graph.custom)["Resources"]
    assert len(made) == sum(resource.type in CONVERSIONS for resource in graph.custom)


@pytest.mark.parametrize(
    ("check", "type_", "change"),
    [
        pytest.param("E3047", TASK, put("memory", "100"), id="memory that Fargate lacks"),
        pytest.param(
            "E3002", TASK, in_container(lambda c: c.update(readonlyRoot=True)), id="unknown key"
        ),
        pytest.param(
            "E3012", TASK, in_container(lambda c: c.update(stopTimeout="soon")), id="wrong type"
        ),
        pytest.param(
            "E3048",
            TASK,
            in_container(lambda c: c["logConfiguration"].update(logDriver="paper")),
            id="unknown log driver",
        ),
        pytest.param(
            "W3037", ROLE_POLICY, add_statement("policy", UNKNOWN_ACTION), id="unknown action"
        ),
        pytest.param(
            "E3510", ROLE_POLICY, add_statement("policy", UNKNOWN_FIELD), id="unknown field"
        ),
    ],
)
def test_a_planted_fault_is_found(graphs, check, type_, change):
    prod = graphs.get("prod")
    name = find(prod, type_).name
    found = lint_resources([find(plant(prod, type_, change), type_)])
    assert found, "nothing found"
    assert {line.split(":")[0] for line in found} == {f"{check} {name}"}
