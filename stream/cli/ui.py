"""`ui`: the page of the person who is paged."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from stream.cli.context import open_settings
from stream.cli.output import json_option

if TYPE_CHECKING:
    from stream.settings import Settings


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), help="Default: HEADRACE_UI_PORT; 0: free.")
@click.option("--open", "is_opened", is_flag=True, help="Also open it in the browser.")
@json_option
def ui(port: int | None, is_opened: bool, as_json: bool) -> None:
    """Serve the page that shows feeds, lag, rejects, days and cost, until Ctrl-C.

    `headrace up` serves it, too. It only reads; it works while the platform is down, and says so.
    With --json the address is printed as one line of JSON before it serves.

    \b
    Examples:
      headrace ui --open
      headrace ui --port 0 --json
      curl -s http://127.0.0.1:8380/api/state | jq '.feeds[].condition_now'
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = open_settings()

    from stream.ui.collector import Collector
    from stream.ui.server import listen, serve_page, url_of

    home = settings.home.absolute()
    listener = listen(settings.ui_host, settings.ui_port if port is None else port, home)
    url = url_of(listener)
    click.echo(f'{{"url": "{url}"}}' if as_json else f"headrace is shown at {url} (Ctrl-C ends it)")
    sys.stdout.flush()
    if is_opened:
        click.launch(url)
    watch = _Watch(settings)
    serve_page(listener, home, Collector(watch.read), watch.history, settings.page_hosts)


class _Watch:
    """The watcher, made by the thread that reads: its libraries take a second to load."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._watcher: Any = None

    def read(self) -> dict[str, Any]:
        """The state, as plain JSON values."""
        from stream.watch.collect import Watcher

        if self._watcher is None:
            self._watcher = Watcher(self._settings)
        state: dict[str, Any] = self._watcher.collect().to_json()
        return state

    def history(self, feed: str) -> list[Any]:
        """The samples of a feed. Raises: KeyError (no such feed)."""
        from stream.feeds import load_feeds
        from stream.watch.history import History

        load_feeds()[feed]
        return list(History(self._settings.home.absolute() / "watch").read(feed))
