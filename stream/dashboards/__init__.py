"""Grafana's dashboards, generated from the catalogue of metrics and the alerts.

`headrace feeds --write` puts them under deploy/grafana/dashboards, from where docker-compose.yml's
Grafana loads them. No Grafana runs where they are tested: the tests know that every expression is
PromQL, every metric exists and no panel lies on another; how it looks, they do not.

    overview       all feeds: is anything wrong, and where
    one_feed       one feed, by the variable `feed`
    every_metric   a panel per metric of the catalogue
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from stream.dashboards.every_metric import every_metric
from stream.dashboards.grafana import render
from stream.dashboards.one_feed import one_feed
from stream.dashboards.overview import overview
from stream.dashboards.panel import Page

FOLDER = Path("deploy") / "grafana" / "dashboards"

PAGES: Mapping[Path, Callable[[], Page]] = {
    FOLDER / "overview.json": overview,
    FOLDER / "feed.json": one_feed,
    FOLDER / "metrics.json": every_metric,
}
"""Every page by the file that holds its JSON, in the source tree."""


def render_page(path: Path) -> str:
    """The JSON of one page. Raises: KeyError for a path that is none of `PAGES`."""
    return render(PAGES[path]())
