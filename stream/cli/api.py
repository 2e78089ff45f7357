"""`api`: serve the lake over HTTP on this machine."""

from __future__ import annotations

import click

from stream.cli.context import open_settings
from stream.cli.output import json_option, print_json


@click.command()
@click.option("--host", help="Bind address.  [default: HEADRACE_API_HOST, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="0: any free one.")
@json_option
def api(host: str | None, port: int | None, as_json: bool) -> int:
    """Serve the lake over HTTP until interrupted: trades, quotes, bars, news, lag.

    Needs a bearer token, made once under HEADRACE_HOME. It starts, and says what is missing, while
    the platform is down. /openapi.json describes every route.

    \b
    Examples:
      headrace api
      curl -H "Authorization: Bearer $(cat .headrace/api-token)" \\
        "http://127.0.0.1:8470/v1/trades?symbol=ACME&limit=5"
    """
    settings = open_settings(api_host=host, api_port=port)

    from stream.serving.keys import TOKEN_FILE
    from stream.serving.local import open_local_api
    from stream.serving.server import serve

    opened = open_local_api(settings)
    where = settings.home.absolute() / TOKEN_FILE

    def announce(url: str) -> None:
        token = "HEADRACE_API_TOKEN" if settings.api_token else str(where)
        if as_json:
            print_json({"url": url, "token": token, "openapi": f"{url}/openapi.json"})
            return
        click.echo(f"headrace API at {url}, described in {url}/openapi.json")
        click.echo(f"Bearer token: {token}")
        if settings.api_host not in {"127.0.0.1", "::1", "localhost"}:
            click.echo("It speaks no TLS: put something that does in front of it.", err=True)

    try:
        serve(opened, settings.api_host, settings.api_port, announce)
    finally:
        opened.close()
    return 0
