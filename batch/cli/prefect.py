"""`up --with-prefect`: a local Prefect server beside the platform, serving every deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.local.supervisor import Child
    from stream.settings import Settings

COMMAND = ("-m", "batch.cli", "up", "--foreground", "--with-prefect")


def add_to(up: click.Command) -> None:
    """Give `up` the option."""
    up.params.append(
        click.Option(
            ["--with-prefect"],
            is_flag=True,
            expose_value=False,
            callback=_choose,
            help="Also a Prefect server (SQLite) with all batch deployments.",
        )
    )


def _choose(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from batch.prefect_server import check_installed
    from stream.cli.platform import ADDITION
    from stream.local.platform import Addition

    check_installed()
    context.meta[ADDITION] = Addition(COMMAND, _children, _note)


def _note(settings: Settings) -> str:
    from batch.prefect_server import remembered_url

    return f"Prefect: {remembered_url(settings)} (a first start takes half a minute)"


def _children(settings: Settings) -> Sequence[Child]:
    """The server, and what serves the deployments: that ends first, because it needs the server
    to cancel its runs and pause its schedules.
    """
    from batch.prefect_server import STOP_SECONDS, plan_prefect
    from stream.local.supervisor import Child

    plan = plan_prefect(settings)
    return [
        Child(plan.server.name, plan.server.command, plan.server.log, plan.server.env),
        Child(
            plan.flows.name,
            plan.flows.command,
            plan.flows.log,
            plan.flows.env,
            ends_first_seconds=STOP_SECONDS,
        ),
    ]
