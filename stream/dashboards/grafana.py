"""A page as Grafana's JSON: where panels lie, which id each has, what they link to.

Made with Grafana's own builders (grafana-foundation-sdk), then given what they leave out: an id per
panel and a letter per query. Bytes depend on the page alone, so that the committed file can be
compared.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import prometheus as query_model
from grafana_foundation_sdk.models import text as text_model

from stream.dashboards.panel import COLUMNS, Page, Panel

SOURCE = model.DataSourceRef(type_val="prometheus", uid="prometheus")
"""As deploy/grafana/provisioning/datasources names it."""

FEED_QUERY = "label_values(headrace_start_timestamp_seconds, feed)"
RUNBOOKS = "/public/runbooks"
"""Where docker-compose.yml lets Grafana serve deploy/runbooks; elsewhere change the dashboard's
constant `runbooks`."""

_NO_COLUMNS = ("Time", "__name__", "alertstate", "job")
"""What Prometheus adds to an answer and no reader of a table wants."""

_FORMATS = {"table": query_model.PromQueryFormat.TABLE, "heat": query_model.PromQueryFormat.HEATMAP}


def render(page: Page) -> str:
    """The page as JSON, keys sorted, with a new line at its end."""
    built = dashboard.Dashboard(page.title).uid(page.uid).description(page.about)
    built.tags(["headrace"]).time("now-1h", "now").refresh("15s").readonly().timezone("utc")
    built.tooltip(model.DashboardCursorSync.CROSSHAIR)
    built.link(
        dashboard.DashboardLink("headrace")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["headrace"])
        .keep_time(True)
        .include_vars(True)
    )
    built.with_variable(dashboard.ConstantVariable("runbooks").value(RUNBOOKS))
    if page.is_per_feed:
        built.with_variable(_feed_variable())
    for number, placed in enumerate(_placed(page), start=1):
        add = built.with_row if isinstance(placed, dashboard.Row) else built.with_panel
        add(placed.id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _feed_variable() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("feed")
        .label("Feed")
        .datasource(SOURCE)
        .query({"query": FEED_QUERY, "refId": "feed"})
        .refresh(model.VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def _placed(page: Page) -> Iterator[Any]:
    """Builders from top to bottom: panels fill a line of the grid, the next one begins below its
    tallest.
    """
    top = 0
    for row in page.rows:
        yield dashboard.Row(row.title).grid_pos(model.GridPos(x=0, y=top, w=COLUMNS, h=1))
        left, top, tallest = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            place = model.GridPos(x=left, y=top, w=panel.width, h=panel.height)
            yield _build(panel).grid_pos(place)
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def _build(panel: Panel) -> Any:
    """The builder of a panel, all but its place and id."""
    built: Any = _BUILDERS[panel.kind](panel)
    built.title(panel.title).description(panel.description())
    if panel.kind == "text":
        return built
    built.unit(panel.unit).datasource(SOURCE)
    for letter, query in zip(string.ascii_uppercase, panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend)
        target.ref_id(letter).datasource(SOURCE)
        if panel.kind in {"table", "number"}:
            target.instant()
        else:
            target.range()
        if panel.kind in _FORMATS:
            target.format(_FORMATS[panel.kind])
        built.with_target(target)
    if panel.limits:
        built.thresholds(_limits(panel))
    links = [
        dashboard.DashboardLink(f"{alert.priority.upper()} {alert.name}")
        .type(model.DashboardLinkType.LINK)
        .url(f"${{runbooks}}/{alert.name}.md")
        .target_blank(True)
        for alert in panel.alerts()
    ]
    return built.links(links) if links else built


def _limits(panel: Panel) -> dashboard.ThresholdsConfig:
    """Green up to the first limit. A step without a value is the base."""
    steps = [model.Threshold(color="green")]
    steps += [model.Threshold(value=value, color=colour) for value, colour in panel.limits]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _lines(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .legend(common.VizLegendOptions().show_legend(True).calcs(["lastNotNull", "max"]))
        .tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
        .min(0)
    )
    if panel.limits:
        mode = common_model.GraphTresholdsStyleMode.LINE
        built.thresholds_style(common.GraphThresholdsStyleConfig().mode(mode))
    if panel.is_stacked:
        built.fill_opacity(30)
        built.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    return built


def _number(panel: Panel) -> stat.Panel:
    built = stat.Panel().graph_mode(common_model.BigValueGraphMode.NONE)
    colour = common_model.BigValueColorMode.BACKGROUND if panel.limits else None
    built.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return built.color_mode(colour or common_model.BigValueColorMode.NONE)


def _heat(panel: Panel) -> heatmap.Panel:
    """Prometheus has counted into buckets already: nothing is left to calculate."""
    scheme = heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME)
    return (
        heatmap.Panel()
        .calculate(False)
        .color(scheme.scheme("Viridis").steps(64))
        .y_axis(heatmap.YAxisConfig().unit(panel.unit))
        .show_legend()
    )


def _states(panel: Panel) -> statetimeline.Panel:
    words = {
        value: model.ValueMappingResult(text=word, color=colour, index=index)
        for index, (value, word, colour) in enumerate(panel.words)
    }
    return statetimeline.Panel().mappings([model.ValueMap(options=words)]).merge_values(True)


def _table(panel: Panel) -> table.Panel:
    """The answers side by side, a line per feed, columns named as the queries are."""
    built = table.Panel().show_header(True)
    built.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    names = {
        f"Value #{letter}": query.legend
        for letter, query in zip(string.ascii_uppercase, panel.queries, strict=False)
    }
    if len(panel.queries) == 1:
        names = {"Value": panel.queries[0].legend}
    built.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": dict.fromkeys(_NO_COLUMNS, True), "renameByName": names},
        )
    )
    for query in panel.queries:
        if query.unit:
            unit = model.DynamicConfigValue(id_val="unit", value=query.unit)
            built.override_by_name(query.legend, [unit])
    for column, url in panel.to:
        link = {"title": "${__value.text}", "url": url}
        built.override_by_name(column, [model.DynamicConfigValue(id_val="links", value=[link])])
    return built


def _text(panel: Panel) -> text.Panel:
    return text.Panel().mode(text_model.TextMode.MARKDOWN).content(panel.text)


_BUILDERS = {
    "lines": _lines,
    "number": _number,
    "heat": _heat,
    "states": _states,
    "table": _table,
    "text": _text,
}
