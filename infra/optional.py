"""The components that a stack may do without, each behind its flag in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.data_lake import DataLake
from components.events import Events
from components.functions import Site
from components.options.cloudfront import CloudFront
from components.options.firehose import Firehose
from components.options.quicksight import QuickSight
from components.options.redshift import Redshift
from components.serving import Serving
from context import Context


@dataclass(frozen=True, slots=True)
class Optional:
    """Those of them that somebody watches; None where the stack has none."""

    events: Events | None
    serving: Serving | None


def declare_options(
    context: Context,
    site: Site,
    lake: DataLake,
    stream_arns: Mapping[str, pulumi.Input[str]],
    prefect_api_url: pulumi.Input[str],
) -> Optional:
    """Make what the stack's settings ask for, and export where it is."""
    wanted, security = context.settings.options, site.security
    if wanted.firehose:
        Firehose(context, security, lake, stream_arns)
    if wanted.quicksight:
        QuickSight(context, lake)
    if wanted.redshift:
        Redshift(context, site.network, security, lake)
    if wanted.cloudfront:
        pulumi.export("exports_domain", CloudFront(context, lake.access_logs).domain_name)
    events = Events(context, site, lake.bronze.name, prefect_api_url) if wanted.lineage else None
    serving = Serving(context, site, lake, stream_arns) if wanted.api else None
    if serving is not None:
        pulumi.export("api_url", serving.url)
    return Optional(events, serving)
