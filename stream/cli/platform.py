"""`up`, `down`, `status`: the local platform as a long-running thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stream.cli.context import check_feeds, open_settings
from stream.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from stream.local.platform import Addition
    from stream.local.state import PlatformState
    from stream.settings import Settings


ADDITION = "headrace.addition"
"""Where an option that another package gives to `up` leaves what the platform shall run, too."""


@click.command()
@click.argument("feeds", nargs=-1)
@click.option("--foreground", is_flag=True, help="Stay in this terminal until interrupted.")
@click.option("--ui/--no-ui", "with_page", default=True, help="Also serve the page (default).")
@json_option
def up(feeds: tuple[str, ...], foreground: bool, with_page: bool, as_json: bool) -> None:
    """Start the local platform: an embedded AWS, one dataflow per feed, and the page.

    It keeps running in the background, restarts what dies, and keeps its data under
    HEADRACE_HOME (default .headrace). Starting it twice does no harm.

    \b
    Examples:
      headrace up                     all feeds
      headrace up trades news         only these
      HEADRACE_EMULATOR=http://127.0.0.1:4566 headrace up
    """
    from stream.local import platform

    settings = open_settings()
    names = check_feeds(feeds, needs_stream=True)
    addition = _add_page(click.get_current_context().meta.get(ADDITION, platform.PLAIN), with_page)
    if foreground:
        platform.run_supervisor(settings, names, addition)
        return
    result = platform.up(settings, names, addition)
    note = addition.note(settings)
    if as_json:
        print_json({"was_running": result.was_running, **_as_dict(settings, result.state)})
        return
    running = [p.name for p in result.state.processes if p.name not in {"aws", "ui"}]
    verb = "is already running" if result.was_running else "runs"
    click.echo(
        f"headrace {verb}: {', '.join(running) or 'no feed'}; AWS at {result.state.endpoint}"
    )
    if note:
        click.echo(note)
    click.echo("Next: headrace produce trades --seconds 10; headrace status; headrace down")


@click.command()
@json_option
def down(as_json: bool) -> None:
    """Stop the local platform. Its data stays; `headrace up` continues where it ended.

    \b
    Examples:
      headrace down
      headrace down && rm -r .headrace      forget everything
    """
    from stream.local import platform

    was_running = platform.down(open_settings())
    if as_json:
        print_json({"was_running": was_running})
    else:
        click.echo("headrace is down" if was_running else "headrace was not running")


@click.command()
@json_option
def status(as_json: bool) -> int:
    """What runs, since when, how often it was restarted, and how far behind it is.

    Exit code 0 if everything runs, 1 if not.

    \b
    Examples:
      headrace status
      headrace status --json | jq '.processes[] | select(.state != "running")'
    """
    from stream.local.state import read_state

    settings = open_settings()
    state = read_state(settings.home.absolute())
    report = _as_dict(settings, state)
    if as_json:
        print_json(report)
    else:
        _print_status(state, report)
    is_well = state.phase == "running" and all(p.state == "running" for p in state.processes)
    return 0 if is_well else 1


def _add_page(addition: Addition, with_page: bool) -> Addition:
    """The addition with the page or without it; the supervisor's own command says which, too."""
    from dataclasses import replace

    from stream.ui.beside import page_beside

    if not with_page:
        return replace(addition, command=(*addition.command, "--no-ui"))
    return page_beside(replace(addition, command=(*addition.command, "--ui")))


def _as_dict(settings: Settings, state: PlatformState) -> dict[str, Any]:
    """The state plus what each dataflow's heartbeat says, and where the page is (None: nowhere)."""
    from dataclasses import asdict

    from stream.heartbeat import read_pulse
    from stream.ui.address import read_page

    pulses = {}
    for process in state.processes:
        pulse = read_pulse(settings.home.absolute(), process.name)
        if pulse and process.state == "running":
            pulses[process.name] = {**asdict(pulse), "age_seconds": pulse.age_seconds()}
    page = read_page(settings.home.absolute())
    return {
        **asdict(state),
        "home": str(settings.home.absolute()),
        "page": page.url if page else None,
        "pulses": pulses,
    }


def _print_status(state: PlatformState, report: dict[str, Any]) -> None:
    if state.phase in {"stopped", "failed"}:
        click.echo(f"headrace is not running in {report['home']}: {state.error or 'headrace up'}")
        return
    click.echo(f"headrace is {state.phase} in {report['home']}; AWS at {state.endpoint}")
    if report["page"]:
        click.echo(f"Page: {report['page']}")
    print_table([_process_row(process, report["pulses"]) for process in report["processes"]])
    shards = [
        {
            "feed": feed,
            "shard": shard["shard"]["shard"],
            **{name: shard[name] for name in ("state", "behind_ms", "records", "detail")},
        }
        for feed, pulse in report["pulses"].items()
        for shard in pulse["shards"]
    ]
    print_table(shards, title="shards")


def _process_row(process: dict[str, Any], pulses: dict[str, Any]) -> dict[str, Any]:
    from stream.clock import now_ms

    tally = pulses.get(process["name"], {}).get("tally", {})
    return {
        "process": process["name"],
        "state": process["state"],
        "pid": str(process["process"]["pid"]) if process["process"] else "",
        "seconds": (now_ms() - process["since_ms"]) // 1000,
        "restarts": process["restarts"],
        "commits": tally.get("commits"),
        "silver rows": tally.get("silver_rows"),
        "last words": process["last_line"][:200],
    }
