"""The page as one more child of `headrace up`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from stream.local.platform import Addition
from stream.local.supervisor import Child
from stream.settings import Settings, child_environment
from stream.ui.address import wait_for_page
from stream.ui.server import free_port, is_free

NAME = "ui"
START_SECONDS = 8.0


def page_beside(addition: Addition) -> Addition:
    """What `up` shall run, and the page."""

    def children(settings: Settings) -> Sequence[Child]:
        return [*addition.children(settings), _child(settings)]

    def note(settings: Settings) -> str:
        return "\n".join(filter(None, [addition.note(settings), _note(settings)]))

    return replace(addition, children=children, note=note)


def _child(settings: Settings) -> Child:
    """One port for all its lives: an open page finds it again after a restart."""
    host, port = settings.ui_host, settings.ui_port
    if not port or not is_free(host, port):
        port = free_port(host)
    home = settings.home.absolute()
    return Child(
        name=NAME,
        command=[sys.executable, "-m", "stream.cli", "ui", "--port", str(port)],
        log=home / "log" / f"{NAME}.log",
        env=child_environment(settings, ("prefect_auth",)),
    )


def _note(settings: Settings) -> str:
    page = wait_for_page(settings.home.absolute(), START_SECONDS)
    if page is None:
        return "Page: not there yet; `headrace status` tells why"
    if settings.ui_port in {0, page.port}:
        return f"Page: {page.url}"
    return f"Page: {page.url} (port {settings.ui_port} is in use, so it took a free one)"
