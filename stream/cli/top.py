"""`top`: lag, throughput and problems of every feed in a terminal, live."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from stream.cli.context import check_feeds, open_settings
from stream.cli.output import json_option, print_json

if TYPE_CHECKING:
    from rich.console import Console, Group

    from stream.watch.collect import Watcher
    from stream.watch.state import WatchState

SAMPLES_MS = 1_800_000


@click.command()
@click.argument("feeds", nargs=-1)
@click.option("--once", is_flag=True, help="Print one picture and end; so does a pipe.")
@click.option(
    "--every",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.2, 3600),
    help="Seconds between two looks.",
)
@json_option
def top(feeds: tuple[str, ...], once: bool, every: float, as_json: bool) -> int:
    """Watch every feed: lag per shard, freshness, throughput, rejects, commits, Prefect's runs.

    Problems stand on top, with what to do. It works whatever is away: a dead dataflow, a stopped
    platform. Key q or Ctrl-C ends it. It changes nothing.

    \b
    Examples:
      headrace top
      headrace top trades news --every 5
      headrace top --once | less
      headrace top --json | jq '.feeds[] | {feed, condition_now, why}'
    """
    names = check_feeds(feeds, needs_stream=not feeds)
    settings = open_settings()
    if not as_json:
        _be_quiet()

    from rich.console import Console

    from stream.watch.collect import FIRST_SECONDS, Watcher

    watcher = Watcher(settings, names)
    if as_json:
        print_json(watcher.collect(wait_seconds=FIRST_SECONDS).to_json())
        return 0
    console = Console(highlight=False, markup=False, emoji=False)
    if once or not console.is_terminal or not sys.stdin.isatty():
        if not console.is_terminal:  # a pipe has no width: do not cut lines
            console = Console(highlight=False, markup=False, emoji=False, width=120, height=60)
        state = watcher.collect(wait_seconds=FIRST_SECONDS)
        console.print(_picture(watcher, state, console))
        return 0
    _watch(watcher, console, every)
    return 0


def _watch(watcher: Watcher, console: Console, every: float) -> None:
    """Full screen until q; the terminal is as before, however it ends."""
    from rich.live import Live

    resized = _Resized()
    state = watcher.collect()
    with (
        _keys() as keys,
        Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        while True:
            live.update(_picture(watcher, state, console, "q ends"), refresh=True)
            if not keys.wait(every, resized):
                return
            if not resized.take():
                state = watcher.collect()


def _picture(watcher: Watcher, state: WatchState, console: Console, footer: str = "") -> Group:
    from stream.watch.screen import Size, draw

    since = state.at_ms - SAMPLES_MS
    samples = {feed.feed: watcher.history.read(feed.feed, since) for feed in state.feeds}
    return draw(state, samples, Size(console.width, console.height), footer=footer)


def _be_quiet() -> None:
    """Log lines would tear the picture; what matters of them is a problem in it."""
    import logging

    logging.getLogger().setLevel(logging.CRITICAL)


class _Resized:
    """Whether the terminal's size has changed: it is drawn anew at once, without a new look."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGWINCH, lambda *_: self._tell())

    def _tell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"r")

    def take(self) -> bool:
        """Whether it changed since the last call."""
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self.reader, 1_024))
        return False


class _Keys:
    """The keyboard, one key at a time."""

    def wait(self, seconds: float, resized: _Resized) -> bool:
        """Until a key, a new size, or the time is over. False: the key was q."""
        stdin = sys.stdin.fileno()
        ready, _, _ = select.select([stdin, resized.reader], [], [], seconds)
        if stdin not in ready:
            return True
        pressed = os.read(stdin, 64)
        return bool(pressed) and not pressed.strip().lower().startswith((b"q", b"\x04"))


@contextlib.contextmanager
def _keys() -> Iterator[_Keys]:
    """Keys without Enter and without echo; SIGTERM ends like Ctrl-C, so that this is undone."""
    import termios
    import tty

    stdin = sys.stdin.fileno()
    before: list[Any] = termios.tcgetattr(stdin)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        tty.setcbreak(stdin)
        yield _Keys()
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
