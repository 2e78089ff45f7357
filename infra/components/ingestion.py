"""The pool `ingestion`: extracts, backfills and replays of every feed.

Its runs read Bronze, streams and the sources outside, write every feed's part of the lake, and
share work through the claims table. Secrets are named, not given: a run that needs no MongoDB does
not stop because nobody has put that secret.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from components.pools import Pool, Surroundings, make_pool
from components.security import Security
from context import Context, Part
from grants import Grant, distinct, read_secrets, read_stream, use_key
from stream.feeds import load_feeds

CLAIM_ACTIONS = ("dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem")
"""What `batch.aws.claim_table` calls."""
SECRETS: Mapping[str, str] = {
    "fmp_secret_id": "fmp-api/api-key",
    "mongo_secret_id": "mongodb/connection-string",
    "pii_secret_id": "pii/key",
}
"""Setting of the runtime -> the secret that it names."""


class Ingestion(Part):
    """Definition, role and worker of the pool."""

    pool: Pool

    def __init__(
        self,
        context: Context,
        around: Surroundings,
        security: Security,
        stream_arns: Mapping[str, pulumi.Output[str]],
    ) -> None:
        super().__init__(context, "ingestion")
        lake = around.lake
        named = {setting: security.secret_arn(path) for setting, path in SECRETS.items()}
        feeds = [grant for feed in sorted(load_feeds()) for grant in lake.stream_grants(feed)]
        grants = [
            *feeds,
            *(grant for arn in stream_arns.values() for grant in read_stream(arn)),
            use_key(security.data_key_arn),
            Grant("Claims", CLAIM_ACTIONS, (lake.claims_table_arn,)),
            read_secrets("Sources", list(named.values())),
            Grant("DecryptSources", ("kms:Decrypt",), (security.secrets_key_arn,)),
        ]
        self.pool = make_pool(self, around, "ingestion", distinct(grants), named)
        self.register_outputs({"pool": self.pool.name})
