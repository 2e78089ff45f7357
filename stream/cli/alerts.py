"""`alerts`: what wakes whom, and where it says what to do."""

from __future__ import annotations

import click

from stream.cli.output import json_option, print_json, print_table
from stream.errors import ConfigError


@click.command()
@click.argument("name", required=False)
@json_option
def alerts(name: str | None, as_json: bool) -> None:
    """List the alerts, or explain one: when it fires, what it means, its runbook.

    It evaluates nothing: Prometheus and CloudWatch do (deploy/prometheus, infra).

    \b
    Examples:
      headrace alerts
      headrace alerts silent-market
      headrace alerts --json | jq '.[] | select(.priority == "p1") | .name'
    """
    from stream.alerts.alert import HEARD_BY
    from stream.alerts.rules import ALERTS

    chosen = [alert for alert in ALERTS if name in {None, alert.name}]
    if not chosen:
        raise ConfigError(f"no alert {name!r}; alerts are: {', '.join(a.name for a in ALERTS)}")
    rows = [
        {
            "name": alert.name,
            "priority": alert.priority,
            "heard by": HEARD_BY[alert.priority],
            "means": alert.means,
            "runbook": alert.runbook,
            "expression": alert.expression,
            "for_seconds": alert.for_seconds,
            "silences": alert.silences,
            "is_in_cloudwatch": alert.cloudwatch is not None,
        }
        for alert in chosen
    ]
    if as_json:
        print_json([{key.replace(" ", "_"): value for key, value in row.items()} for row in rows])
    elif name:
        print_table([{"alert": key, "": str(value)} for key, value in rows[0].items()])
    else:
        columns = ("name", "priority", "heard by", "means", "runbook")
        short = [{key: row[key] for key in columns} for row in rows]
        print_table([{**row, "means": str(row["means"]).split(". ")[0]} for row in short])
