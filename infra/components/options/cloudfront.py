"""Exports over CloudFront: files that people outside may fetch with a signed address.

A bucket of its own, because it is the only one that anybody outside the account reads: what is not
put there cannot leak through here. CloudFront alone reads it (origin access control), and only for
addresses that are signed with the key whose public half the settings hold. The bucket and its key
name the distribution, which needs the bucket's address only: it is known before the bucket is.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_aws as aws

from components.bucket import BucketPlan, Zone, expire, make_bucket
from components.keys import KeyUse, make_key
from context import Context, Part

CLOUDFRONT = "cloudfront.amazonaws.com"
CLOUDFRONT_REGION = "us-east-1"
"""Where CloudFront's certificates and log deliveries live, wherever the stack is."""
CACHING_OPTIMIZED = "658327ea-f89d-4fab-a63d-7e88639e58f6"
SECURITY_HEADERS = "67f7725c-6f97-4210-82d7-5512b31e9d03"
"""Policies that AWS manages; their ids are the same in every account."""
LOG_FOLDER = "exports-cdn"
OLD_VERSIONS_DAYS, EXPORT_DAYS = 30, 90


class CloudFront(Part):
    """The distribution, its bucket and its logs."""

    exports: Zone
    domain_name: pulumi.Output[str]

    def __init__(self, context: Context, access_logs: Zone) -> None:
        super().__init__(context, "cloudfront")
        distribution = self._distribution()
        reader = _reader(distribution.arn)
        key = make_key(
            self,
            KeyUse(
                "exports",
                "Files that CloudFront hands out",
                through=("s3",),
                writers=(
                    {**reader, "Action": "kms:Decrypt", "Resource": "*"},
                    self._deliverer(["kms:Decrypt", "kms:GenerateDataKey*"], "*"),
                ),
            ),
        )
        arn = f"arn:aws:s3:::{context.bucket_name('exports')}/*"
        self.exports = make_bucket(
            self,
            BucketPlan(
                "exports",
                key.arn,
                OLD_VERSIONS_DAYS,
                rules=[expire("old-exports", "", EXPORT_DAYS)],
                logs_to=access_logs.bucket.id,
                statements=[{**reader, "Action": "s3:GetObject", "Resource": arn}],
            ),
        )
        self._log(distribution, key.arn)
        self.domain_name = distribution.domain_name
        self.register_outputs({"domain_name": self.domain_name})

    def _distribution(self) -> aws.cloudfront.Distribution:
        context, options = self.context, self.context.settings.options
        bucket = f"{context.bucket_name('exports')}.s3.{context.settings.region}.amazonaws.com"
        control = aws.cloudfront.OriginAccessControl(
            "exports",
            name=context.name("exports"),
            origin_access_control_origin_type="s3",
            signing_behavior="always",
            signing_protocol="sigv4",
            opts=self.below(),
        )
        return aws.cloudfront.Distribution(
            "exports",
            comment=f"Exports of headrace {context.settings.stack}",
            enabled=True,
            aliases=[domain for domain in [options.cloudfront_domain] if domain],
            http_version="http2and3",
            is_ipv6_enabled=True,
            price_class="PriceClass_100",
            origins=[
                {
                    "origin_id": "exports",
                    "domain_name": bucket,
                    "origin_access_control_id": control.id,
                }
            ],
            default_cache_behavior={
                "target_origin_id": "exports",
                "viewer_protocol_policy": "https-only",
                "allowed_methods": ["GET", "HEAD"],
                "cached_methods": ["GET", "HEAD"],
                "cache_policy_id": CACHING_OPTIMIZED,
                "response_headers_policy_id": SECURITY_HEADERS,
                "trusted_key_groups": [self._signers()],
                "compress": True,
            },
            restrictions={"geo_restriction": {"restriction_type": "none"}},
            viewer_certificate={
                "acm_certificate_arn": options.cloudfront_certificate_arn,
                "minimum_protocol_version": "TLSv1.2_2021",
                "ssl_support_method": "sni-only",
            },
            opts=self.below(),
        )

    def _signers(self) -> pulumi.Output[str]:
        """Whoever holds the private half of the key may sign addresses."""
        key = aws.cloudfront.PublicKey(
            "exports",
            name=self.context.name("exports"),
            comment="Signs addresses of exports",
            encoded_key=self.context.settings.options.cloudfront_public_key,
            opts=self.below(),
        )
        group = aws.cloudfront.KeyGroup(
            "exports", name=self.context.name("exports"), items=[key.id], opts=self.below()
        )
        return group.id

    def _log(self, distribution: aws.cloudfront.Distribution, key_arn: pulumi.Input[str]) -> None:
        """Who fetched what, to CloudWatch's delivery: the older way needs a bucket with ACLs."""
        objects = f"arn:aws:s3:::{self.context.bucket_name(LOG_FOLDER)}/*"
        bucket = make_bucket(
            self,
            BucketPlan(
                LOG_FOLDER,
                key_arn,
                OLD_VERSIONS_DAYS,
                rules=[expire("old-logs", "", self.context.settings.log_days)],
                statements=[self._deliverer("s3:PutObject", objects)],
            ),
        )
        source = aws.cloudwatch.LogDeliverySource(
            "exports",
            region=CLOUDFRONT_REGION,
            name=self.context.name("exports"),
            log_type="ACCESS_LOGS",
            resource_arn=distribution.arn,
            opts=self.below(),
        )
        destination = aws.cloudwatch.LogDeliveryDestination(
            "exports",
            region=CLOUDFRONT_REGION,
            name=self.context.name("exports"),
            output_format="json",
            delivery_destination_configuration={"destination_resource_arn": bucket.arn},
            opts=self.below(),
        )
        aws.cloudwatch.LogDelivery(
            "exports",
            region=CLOUDFRONT_REGION,
            delivery_source_name=source.name,
            delivery_destination_arn=destination.arn,
            opts=self.below(),
        )

    def _deliverer(self, action: str | list[str], resource: str) -> dict[str, Any]:
        """CloudWatch's delivery of logs, for this account alone."""
        account = self.context.settings.account_id
        source = f"arn:aws:logs:{CLOUDFRONT_REGION}:{account}:delivery-source:*"
        return {
            "Sid": "LogsArrive",
            "Effect": "Allow",
            "Principal": {"Service": "delivery.logs.amazonaws.com"},
            "Action": action,
            "Resource": resource,
            "Condition": {
                "StringEquals": {"aws:SourceAccount": account},
                "ArnLike": {"aws:SourceArn": source},
            },
        }


def _reader(distribution_arn: pulumi.Input[str]) -> dict[str, Any]:
    """CloudFront, for this distribution alone."""
    return {
        "Sid": "CloudFrontReads",
        "Effect": "Allow",
        "Principal": {"Service": CLOUDFRONT},
        "Condition": {"StringEquals": {"aws:SourceArn": distribution_arn}},
    }
