"""The HTTP API: a gateway that lets nobody in without a token, and a function that only reads.

Not here: routes, paging, limits of an answer (the handler); what a query may scan (the workgroup).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

import handlers
from components.data_lake import DataLake
from components.environment import environment
from components.functions import Limits, Site, make_function
from components.lake_places import QUERY_RESULTS
from components.security import log_group
from context import Context, Part
from grants import Grant, distinct, read_secrets, read_stream, write_objects

LIMITS = Limits(timeout_seconds=29, memory_mib=1769, concurrency=20)
"""29 s: the gateway gives up after 30. 1,769 MiB is what Lambda gives one whole processor for."""

ACCESS_LOG = {
    "time": "$context.requestTime",
    "request": "$context.requestId",
    "caller": "$context.authorizer.claims.sub",
    "address": "$context.identity.sourceIp",
    "route": "$context.routeKey",
    "status": "$context.status",
    "bytes": "$context.responseLength",
    "latency_ms": "$context.responseLatency",
    "error": "$context.authorizer.error",
}
"""No headers and no query: tokens and cursors are in them."""


class Serving(Part):
    """The API of the lake."""

    url: pulumi.Output[str]
    api_id: pulumi.Output[str]
    function_name: pulumi.Output[str]

    def __init__(
        self,
        context: Context,
        site: Site,
        lake: DataLake,
        stream_arns: Mapping[str, pulumi.Input[str]],
    ) -> None:
        super().__init__(context, "serving")
        cursor_key = site.security.secret_arn("api/cursor-key")
        function = make_function(
            self,
            "api",
            handlers.API,
            site,
            LIMITS,
            grants=(
                *lake.read_grants(),
                *_query_grants(context, lake),
                *_lag_grants(stream_arns),
                read_secrets("ReadCursorKey", [cursor_key]),
                Grant("ReadSecretsKey", ("kms:Decrypt",), (site.security.secrets_key_arn,)),
            ),
            environment={
                **lake.environment,
                **environment(
                    stream_prefix=context.streams_prefix,
                    api_workgroup=lake.interactive_workgroup_name,
                    api_cursor_secret_id=cursor_key,
                    api_requests_per_second=context.settings.options.api_requests_per_second,
                ),
            },
        )
        api = aws.apigatewayv2.Api(
            "api",
            name=context.name("api"),
            description="Reads of headrace's lake",
            protocol_type="HTTP",
            opts=self.below(),
        )
        self._route(api, function)
        self._stage(api, site)
        self.url, self.api_id, self.function_name = api.api_endpoint, api.id, function.name
        self.register_outputs({"url": self.url})

    def _route(self, api: aws.apigatewayv2.Api, function: aws.lambda_.Function) -> None:
        """One route with a lock; the function knows the paths."""
        options = self.context.settings.options
        authorizer = aws.apigatewayv2.Authorizer(
            "token",
            api_id=api.id,
            name=self.context.name("token"),
            authorizer_type="JWT",
            identity_sources=["$request.header.Authorization"],
            jwt_configuration={
                "issuer": options.jwt_issuer,
                "audiences": list(options.jwt_audience),
            },
            opts=self.below(),
        )
        integration = aws.apigatewayv2.Integration(
            "function",
            api_id=api.id,
            integration_type="AWS_PROXY",
            integration_uri=function.invoke_arn,
            payload_format_version="2.0",
            timeout_milliseconds=LIMITS.timeout_seconds * 1000,
            opts=self.below(),
        )
        aws.apigatewayv2.Route(
            "everything",
            api_id=api.id,
            route_key="$default",
            authorization_type="JWT",
            authorizer_id=authorizer.id,
            target=pulumi.Output.concat("integrations/", integration.id),
            opts=self.below(),
        )
        aws.lambda_.Permission(
            "gateway",
            action="lambda:InvokeFunction",
            function=function.name,
            principal="apigateway.amazonaws.com",
            source_arn=pulumi.Output.concat(api.execution_arn, "/*/$default"),
            source_account=self.context.settings.account_id,
            opts=self.below(),
        )

    def _stage(self, api: aws.apigatewayv2.Api, site: Site) -> None:
        options = self.context.settings.options
        log = log_group(self, site.security, "api-access")
        aws.apigatewayv2.Stage(
            "live",
            api_id=api.id,
            name="$default",
            auto_deploy=True,
            default_route_settings={
                "throttling_rate_limit": options.api_requests_per_second,
                "throttling_burst_limit": 2 * options.api_requests_per_second,
                "detailed_metrics_enabled": True,
            },
            access_log_settings={"destination_arn": log.arn, "format": json.dumps(ACCESS_LOG)},
            opts=self.below(),
        )


def _lag_grants(stream_arns: Mapping[str, pulumi.Input[str]]) -> tuple[Grant, ...]:
    """Ask each shard for its tip: what lag is measured against."""
    return distinct([grant for arn in stream_arns.values() for grant in read_stream(arn)])


def _query_grants(context: Context, lake: DataLake) -> tuple[Grant, ...]:
    """Query in the workgroup for interactive use, which caps what a query may scan."""
    name = lake.interactive_workgroup_name
    actions = (
        "athena:GetQueryExecution",
        "athena:GetQueryResults",
        "athena:StartQueryExecution",
        "athena:StopQueryExecution",
    )
    results = [f"{QUERY_RESULTS}interactive/"]
    return (
        Grant("Query", actions, (context.arn("athena", f"workgroup/{name}"),)),
        *write_objects("Results", lake.artifacts.arn, results),
        Grant("FindResults", ("s3:GetBucketLocation",), (lake.artifacts.arn,)),
    )
