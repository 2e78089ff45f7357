"""The pools `transformation` (compaction, Gold) and `lightweight` (what looks, counts and deletes).

Both maintain Silver; only the first builds Gold, only the second looks at streams (`stream-watch`).
Neither may delete from Bronze.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from components.pools import Pool, Surroundings, make_pool
from components.security import Security
from context import Context, Part
from grants import distinct, read_stream, use_key

WORKGROUP = "DBT_ATHENA_WORKGROUP"


class Transformation(Part):
    """Definitions, roles and workers of both pools."""

    transformation: Pool
    lightweight: Pool

    def __init__(
        self,
        context: Context,
        around: Surroundings,
        security: Security,
        stream_arns: Mapping[str, pulumi.Output[str]],
    ) -> None:
        super().__init__(context, "transformation")
        lake = around.lake
        build = distinct([*lake.maintain_grants(), *lake.gold_grants()])
        self.transformation = make_pool(
            self,
            around,
            "transformation",
            build,
            {},
            variables={WORKGROUP: lake.workgroup_name},  # dbt/profiles.yml
        )
        look = [grant for arn in stream_arns.values() for grant in read_stream(arn)]
        keys = use_key(security.data_key_arn)
        watch = distinct([*lake.maintain_grants(), *look, keys])
        self.lightweight = make_pool(self, around, "lightweight", watch, {})
        self.register_outputs({})
