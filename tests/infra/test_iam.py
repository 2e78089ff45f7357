"""Every policy document against AWS's lists of actions, resources and condition keys."""

from __future__ import annotations

import pytest

import synth
from judges import iam
from judges.iam_facts import find_actions
from judges.plant import add_statement, find, in_json, plant

KEY = "aws:kms/key:Key"
ROLE = "aws:iam/role:Role"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
OBJECTS = "arn:aws:s3:::headrace-prod-silver-123456789012/silver/*"
BUCKET = "arn:aws:s3:::headrace-prod-silver-123456789012"
STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/headrace-prod-trades"


@pytest.mark.parametrize("stack", synth.STACKS)
def test_every_statement_of_a_stack_means_what_it_says(graphs, stack):
    graph = graphs.get(stack)
    assert iam.judge(graph) == []
    assert len(list(iam.statements(graph, iam.GRANTING))) > 20, "the judge saw the grants"


def test_every_statement_means_what_it_says_when_every_option_is_on(graphs):
    assert iam.judge(graphs.everything()) == []


@pytest.mark.parametrize("stack", synth.STACKS)
def test_no_grant_names_what_is_not_there(graphs, stack):
    assert iam.judge_targets(graphs.get(stack)) == []


def test_a_grant_on_a_stream_that_is_not_there_is_found(graphs):
    wrong = statement("kinesis:GetRecords", STREAM.replace("trades", "trade"))
    before = iam.judge_targets(graphs.get("prod"))
    found = iam.judge_targets(
        plant(graphs.get("prod"), ROLE_POLICY, add_statement("policy", wrong))
    )
    assert [problem.sid for problem in found if problem not in before] == ["Planted"]


def statement(action, resource="*", **conditions):
    found = {"Sid": "Planted", "Effect": "Allow", "Action": action, "Resource": resource}
    return found | ({"Condition": conditions} if conditions else {})


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        ("kinesis:GetRecordz: there is no such action", statement("kinesis:GetRecordz", STREAM)),
        ("kinesys:GetRecords: there is no such action", statement("kinesys:GetRecords", STREAM)),
        ("s3:Fetch*: there is no such action", statement("s3:Fetch*", OBJECTS)),
        ("s3:GetObject: none of", statement("s3:GetObject", BUCKET)),
        ("s3:ListBucket: none of", statement("s3:ListBucket", OBJECTS)),
        ("no action of this statement takes", statement("s3:GetObject", [OBJECTS, STREAM])),
        ("sqs:SendMessage: none of", statement("sqs:SendMessage", [STREAM])),
        ("on *: it takes ['stream'", statement("kinesis:PutRecords")),
        ("takes no resource: only *", statement("ecr:GetAuthorizationToken", STREAM)),
        (
            "s3:prefix: none of",
            statement("s3:GetObject", OBJECTS, StringLike={"s3:prefix": ["silver/*"]}),
        ),
        (
            "aws:SourceAcount: none of",
            statement("s3:GetObject", OBJECTS, StringEquals={"aws:SourceAcount": "123456789012"}),
        ),
        (
            "StringMatches: there is no such condition operator",
            statement("s3:GetObject", OBJECTS, StringMatches={"aws:SourceAccount": "1"}),
        ),
    ],
)
def test_a_planted_statement_is_found(graphs, fault, wrong):
    found = iam.judge(plant(graphs.get("prod"), ROLE_POLICY, add_statement("policy", wrong)))
    assert found, "nothing found"
    assert all(problem.sid == "Planted" for problem in found)
    assert any(fault in problem.fault for problem in found), found


def test_a_misspelt_word_in_a_resources_own_policy_is_found(graphs):
    wrong = {**statement("kms:Decrypyt"), "Principal": {"Service": "logs.amazonaws.com"}}
    prod = graphs.get("prod")
    (problem,) = iam.judge(plant(prod, KEY, add_statement("policy", wrong)))
    assert (problem.sid, problem.urn) == ("Planted", find(prod, KEY).urn)


def test_a_misspelt_condition_of_a_trust_is_found(graphs):
    def misspell(document):
        document["Statement"][0]["Condition"] = {"StringEquals": {"aws:SourceAcc": "123456789012"}}

    wrong = plant(graphs.get("prod"), ROLE, in_json("assumeRolePolicy", misspell))
    assert ["aws:SourceAcc" in problem.fault for problem in iam.judge(wrong)] == [True]


def test_actions_are_found_as_iam_finds_them():
    assert [action.name for action in find_actions("s3:getobject")] == ["s3:GetObject"]
    assert {a.name for a in find_actions("kinesis:PutRecord*")} == {
        "kinesis:PutRecord",
        "kinesis:PutRecords",
    }
    assert not find_actions("s3:NoSuchThing")
