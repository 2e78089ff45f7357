"""Who hears an alarm: topics that nobody else publishes to, the pager, the channel, the budget."""

from __future__ import annotations

import json
import re

from cfnlint.api import lint_all

from stream.alerts.alert import PRIORITIES
from synth import Graph

TOPIC = "aws:sns/topic:Topic"
SUBSCRIPTION = "aws:sns/topicSubscription:TopicSubscription"
SLACK = "aws:chatbot/slackChannelConfiguration:SlackChannelConfiguration"


def topic_faults(graph: Graph) -> list[str]:
    """Topics in clear, or that somebody else may publish to."""
    faults = [t.name for t in graph.of(TOPIC) if "key/" not in t.inputs.get("kmsMasterKeyId", "")]
    policies = {
        p.inputs["arn"]: json.loads(p.inputs["policy"])["Statement"]
        for p in graph.of("aws:sns/topicPolicy:TopicPolicy")
    }
    for topic in graph.of(TOPIC):
        statements = policies.get(topic.outputs["arn"], [])
        denied = [s for s in statements if s["Effect"] == "Deny"]
        if not any(s["Condition"] == {"Bool": {"aws:SecureTransport": "false"}} for s in denied):
            faults.append(f"{topic.name}: without TLS")
        for allowed in (s for s in statements if s["Effect"] == "Allow"):
            limit = allowed.get("Condition", {}).get("StringEquals", {})
            if "Service" not in allowed["Principal"] or "aws:SourceAccount" not in limit:
                faults.append(f"{topic.name}: open to {allowed['Principal']}")
    return faults


def test_topics_are_encrypted_and_only_this_accounts_alarms_publish(graph, graphs):
    assert [t.name for t in graph.of(TOPIC)] == [f"alerts-{p}" for p in sorted(PRIORITIES)]
    assert topic_faults(graph) == []
    prod = graphs.get("prod")
    anybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sns:Publish"}
    planted = json.dumps({"Statement": [anybody]})
    assert topic_faults(graphs.broken(prod, TOPIC, "alerts-p1", kmsMasterKeyId=""))
    assert topic_faults(
        graphs.broken(prod, "aws:sns/topicPolicy:TopicPolicy", "alerts-p1-policy", policy=planted)
    )


def template_faults(template: str) -> list[str]:
    """What CloudFormation's own rules say, and an address that is written out."""
    found = [m.message for m in lint_all(template) if m.rule.severity != "informational"]
    endpoint = json.loads(template)["Resources"]["Pager"]["Properties"]["Endpoint"]
    if not re.fullmatch(r"\{\{resolve:secretsmanager:arn:aws:secretsmanager:[^}]+\}\}", endpoint):
        found.append(f"the address is not a reference: {endpoint}")
    return found


def test_the_pagers_address_is_a_reference_in_a_template_that_cloudformation_takes(graphs):
    template = graphs.get("prod").one("aws:cloudformation/stack:Stack", "pager")
    text = template.inputs["templateBody"]
    assert template_faults(text) == []
    assert template_faults(text.replace('"Protocol"', '"Protokoll"'))
    assert template_faults(re.sub(r"\{\{.*?\}\}", "https://events.example.com/key", text))


def test_dev_has_no_pager_and_hears_by_mail(graphs):
    dev = graphs.get("dev")
    assert not dev.of("aws:cloudformation/stack:Stack")
    mails = {s.name for s in dev.of(SUBSCRIPTION)}
    assert mails == {"alerts-p1-email", "alerts-p2-email", "alerts-p3-email"}


def test_the_slack_channel_may_do_nothing(graphs):
    prod = graphs.get("prod")
    (slack,) = prod.of(SLACK)
    assert slack.inputs["guardrailPolicyArns"] == ["arn:aws:iam::aws:policy/AWSDenyAll"]
    policies = {p.inputs["role"] for p in prod.of("aws:iam/rolePolicy:RolePolicy")}
    assert prod.one("aws:iam/role:Role", "slack-role").outputs["id"] not in policies


def test_the_budget_is_of_this_stack_alone_and_warns_before_it_is_spent(graph, settings_of):
    (budget,) = graph.of("aws:budgets/budget:Budget")
    assert budget.inputs["costFilters"][0]["values"] == [f"user:stack${graph.stack}"]
    limit = settings_of(graph.stack)["alerts"]["monthly_budget_usd"]
    assert budget.inputs["limitAmount"] == str(limit)
    kinds = {n["notificationType"]: n["threshold"] for n in budget.inputs["notifications"]}
    assert kinds == {"ACTUAL": 80, "FORECASTED": 100}
    (provider,) = graph.of("pulumi:providers:aws")
    assert json.loads(provider.inputs["defaultTags"])["tags"]["stack"] == graph.stack
