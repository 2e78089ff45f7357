"""What every component needs: the stack's settings, names, and a parent for its resources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from settings import StackSettings


@dataclass(frozen=True, slots=True)
class Context:
    """One stack's settings and its provider."""

    settings: StackSettings
    provider: aws.Provider

    def name(self, what: str) -> str:
        """A physical name: one account may hold all three stacks."""
        return f"headrace-{self.settings.stack}-{what}"

    def bucket_name(self, what: str) -> str:
        """A bucket's name, which is unique among all accounts."""
        return f"headrace-{self.settings.stack}-{what}-{self.settings.account_id}"

    @property
    def streams_prefix(self) -> str:
        """What the runtime's setting `stream_prefix` is on this stack."""
        return self.name("")

    def arn(self, service: str, what: str, *, region: bool = True) -> str:
        """An ARN of this account, for resources whose name is known before they are made."""
        where = self.settings.region if region else ""
        return f"arn:aws:{service}:{where}:{self.settings.account_id}:{what}"


class Part(pulumi.ComponentResource):
    """A component: a named group of resources below it.

    `outputs` are what other components and `pulumi stack output` read.
    """

    def __init__(self, context: Context, kind: str) -> None:
        super().__init__(
            f"headrace:aws:{kind}",
            kind,
            None,
            pulumi.ResourceOptions(providers=[context.provider]),
        )
        self.context = context

    def below(self, **options: Any) -> pulumi.ResourceOptions:
        """Options of a resource of this component."""
        return pulumi.ResourceOptions(parent=self, **options)

    def kept(self, **options: Any) -> pulumi.ResourceOptions:
        """Options of what holds data: never deleted with the stack."""
        return self.below(protect=True, retain_on_delete=True, **options)


def make_provider(settings: StackSettings) -> aws.Provider:
    """The only provider: refuses another account, tags everything."""
    return aws.Provider(
        "aws",
        region=settings.region,
        allowed_account_ids=[settings.account_id],
        default_tags=aws.ProviderDefaultTagsArgs(
            tags={
                "project": "headrace",
                "stack": settings.stack,
                "cost-allocation": settings.cost_allocation,
                "managed-by": "pulumi",
            }
        ),
    )
