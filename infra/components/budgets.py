"""Money: a monthly budget and a watch for unusual costs, both of this stack alone, both P3.

A stack's costs are told from another's by the tag `stack`, which the provider puts on everything.
Billing knows a tag only after it was activated as a cost allocation tag, by hand and once for each
account (Billing, "Cost allocation tags"); until then both see nothing.
"""

from __future__ import annotations

import json

import pulumi
import pulumi_aws as aws

from context import Context, Part

TAG = "stack"
ACTUAL_PERCENT, FORECAST_PERCENT = 80, 100
ANOMALY_SHARE = 20
"""A budget's part that an unusual cost must reach to be worth a mail: 1/20."""


class Budgets(Part):
    """The stack's budget and anomaly monitor."""

    def __init__(self, context: Context, topic_arn: pulumi.Input[str]) -> None:
        super().__init__(context, "budgets")
        self._budget(topic_arn)
        self._anomalies(topic_arn)
        self.register_outputs({})

    def _budget(self, topic_arn: pulumi.Input[str]) -> None:
        settings = self.context.settings
        aws.budgets.Budget(
            "monthly",
            name=self.context.name("monthly"),
            budget_type="COST",
            limit_amount=str(settings.alerts.monthly_budget_usd),
            limit_unit="USD",
            time_unit="MONTHLY",
            cost_filters=[{"name": "TagKeyValue", "values": [f"user:{TAG}${settings.stack}"]}],
            notifications=[
                {
                    "comparison_operator": "GREATER_THAN",
                    "notification_type": kind,
                    "threshold": percent,
                    "threshold_type": "PERCENTAGE",
                    "subscriber_sns_topic_arns": [topic_arn],
                }
                for kind, percent in (
                    ("ACTUAL", ACTUAL_PERCENT),
                    ("FORECASTED", FORECAST_PERCENT),
                )
            ],
            opts=self.below(),
        )

    def _anomalies(self, topic_arn: pulumi.Input[str]) -> None:
        """By tag and not by service: an account has one monitor of services, but three stacks."""
        settings = self.context.settings
        tags = {"Key": TAG, "Values": [settings.stack], "MatchOptions": ["EQUALS"]}
        monitor = aws.costexplorer.AnomalyMonitor(
            "costs",
            name=self.context.name("costs"),
            monitor_type="CUSTOM",
            monitor_specification=json.dumps({"Tags": tags}),
            opts=self.below(),
        )
        aws.costexplorer.AnomalySubscription(
            "unusual-costs",
            name=self.context.name("unusual-costs"),
            frequency="IMMEDIATE",
            monitor_arn_lists=[monitor.arn],
            subscribers=[{"type": "SNS", "address": topic_arn}],
            threshold_expression={
                "dimension": {
                    "key": "ANOMALY_TOTAL_IMPACT_ABSOLUTE",
                    "match_options": ["GREATER_THAN_OR_EQUAL"],
                    "values": [str(max(1, settings.alerts.monthly_budget_usd // ANOMALY_SHARE))],
                }
            },
            opts=self.below(),
        )
