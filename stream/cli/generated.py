"""What is generated from the code and kept in the tree: one line per file.

`headrace feeds --write` writes all of it; a test compares what is kept with what the code gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

Generated = tuple[Path, Callable[[], str]]
"""A path, relative to the tree's root, and what gives the text that belongs there."""


def generated_files() -> Iterator[Generated]:
    """Every generated file. Imports are made here: rendering some of them takes a second."""
    from stream.alerts.prometheus import RULES, render_rules
    from stream.cli.dbt_sources import SOURCES, render_sources
    from stream.cli.feeds import PAGE, render_feeds
    from stream.dashboards import PAGES, render_page
    from stream.feeds import load_feeds
    from stream.serving.openapi import PATH as OPENAPI
    from stream.serving.openapi import render_document
    from stream.telemetry import page as metrics_page

    contracts = list(load_feeds().values())
    yield PAGE, lambda: render_feeds(contracts)
    yield SOURCES, lambda: render_sources(contracts)
    yield metrics_page.PAGE, metrics_page.render_metrics
    yield RULES, render_rules
    yield from ((path, partial(render_page, path)) for path in PAGES)
    yield OPENAPI, render_document
