"""QuickSight over Gold: a source that asks Athena, and a data set of daily bars.

Needs a subscription of the account, which no program makes, and QuickSight's own leave to use
Athena and the Gold and artifacts buckets ("Security & permissions"). Columns are read from the
model's own description in dbt, so a new column is a new column here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pulumi_aws as aws
import yaml

from components.data_lake import DataLake
from context import Context, Part

MODEL = "fct_bars_1d"
DESCRIBED_IN = Path(__file__).parents[3] / "dbt/models/marts/market/_market.yml"

TYPES = {
    "varchar": "STRING",
    "date": "DATETIME",
    "timestamp": "DATETIME",
    "bigint": "INTEGER",
    "integer": "INTEGER",
    "double": "DECIMAL",
    "decimal": "DECIMAL",
    "boolean": "BOOLEAN",
}
"""Type of a Gold column -> QuickSight's."""

OWN_SOURCE = (
    "quicksight:DeleteDataSource",
    "quicksight:DescribeDataSource",
    "quicksight:DescribeDataSourcePermissions",
    "quicksight:PassDataSource",
    "quicksight:UpdateDataSource",
    "quicksight:UpdateDataSourcePermissions",
)
OWN_SET = (
    "quicksight:CancelIngestion",
    "quicksight:CreateIngestion",
    "quicksight:DeleteDataSet",
    "quicksight:DescribeDataSet",
    "quicksight:DescribeDataSetPermissions",
    "quicksight:DescribeIngestion",
    "quicksight:ListIngestions",
    "quicksight:PassDataSet",
    "quicksight:UpdateDataSet",
    "quicksight:UpdateDataSetPermissions",
)


class QuickSight(Part):
    """A source and a data set, owned by the user whom the settings name."""

    def __init__(self, context: Context, lake: DataLake) -> None:
        super().__init__(context, "quicksight")
        owner = context.settings.options.quicksight_user_arn
        if owner is None:
            raise ValueError("quicksight without quicksight_user_arn: the settings refuse it")
        source = aws.quicksight.DataSource(
            "gold",
            data_source_id=context.name("gold"),
            name=context.name("gold"),
            type="ATHENA",
            parameters={"athena": {"work_group": lake.interactive_workgroup_name}},
            ssl_properties={"disable_ssl": False},
            permissions=[{"principal": owner, "actions": list(OWN_SOURCE)}],
            opts=self.below(),
        )
        aws.quicksight.DataSet(
            "daily-bars",
            data_set_id=context.name("daily-bars"),
            name=context.name("daily-bars"),
            import_mode="DIRECT_QUERY",
            physical_table_maps=[
                {
                    "physical_table_map_id": "bars",
                    "relational_table": {
                        "data_source_arn": source.arn,
                        "catalog": "AwsDataCatalog",
                        "schema": lake.databases["gold"],
                        "name": MODEL,
                        "input_columns": [
                            {"name": name, "type": type_} for name, type_ in gold_columns()
                        ],
                    },
                }
            ],
            permissions=[{"principal": owner, "actions": list(OWN_SET)}],
            opts=self.below(),
        )
        self.register_outputs({})


def gold_columns() -> list[tuple[str, str]]:
    """The model's columns with QuickSight's types. Raises: KeyError for a type without one."""
    models: list[dict[str, Any]] = yaml.safe_load(DESCRIBED_IN.read_text())["models"]
    model = next(found for found in models if found["name"] == MODEL)
    return [
        (column["name"], TYPES[re.sub(r"\(.*", "", column["data_type"])])
        for column in model["columns"]
    ]
