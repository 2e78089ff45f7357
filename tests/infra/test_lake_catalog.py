"""What describes the lake: databases, workgroups, schemas of feeds, who sees which column."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

from batch.gold.athena import ABSENT_NAMESPACE, LEDGER_NAMESPACE
from batch.gold.slots import COLOURS
from components.message_schema import avro_schema
from judges.plant import plant, put, remove
from stream.feeds import load_feeds
from stream.lake.catalog_schema import iceberg_schema
from stream.lake.connect import LINEAGE_DOCS
from stream.settings import Settings

BUCKET = "aws:s3/bucket:Bucket"
DATABASE = "aws:glue/catalogDatabase:CatalogDatabase"
SCHEMA = "aws:glue/schema:Schema"
WORKGROUP = "aws:athena/workgroup:Workgroup"
FILTER = "aws:lakeformation/dataCellsFilter:DataCellsFilter"
PERMISSIONS = "aws:lakeformation/permissions:Permissions"
LOCATION = "aws:lakeformation/resource:Resource"
LF_SETTINGS = "aws:lakeformation/dataLakeSettings:DataLakeSettings"
GIB = 1024**3


def check_workgroups(graph):
    """Nobody asks outside of a limit, or puts a result where it is not encrypted and expires."""
    found, limit = [], graph.settings["athena_scan_limit_gib"] * GIB
    artifacts = graph.one(BUCKET, "artifacts").inputs["bucket"]
    for group in graph.of(WORKGROUP):
        given = group.inputs["configuration"]
        result = given["resultConfiguration"]
        kept = result.get("encryptionConfiguration", {}).get("encryptionOption")
        times = 4 if group.name == "workgroup-gold" else 1
        is_right = {
            "enforced": given.get("enforceWorkgroupConfiguration") is True,
            "limited": given.get("bytesScannedCutoffPerQuery") == limit * times,
            "encrypted": kept == "SSE_KMS",
            "in artifacts": result["outputLocation"].startswith(
                f"s3://{artifacts}/athena-results/"
            ),
        }
        found += [f"{group.name}: not {what}" for what, is_so in is_right.items() if not is_so]
    return found


def check_catalog(graph):
    """The databases that the runtime names, and a schema for every feed that says its columns."""
    wanted = {
        Settings.model_fields["namespace"].default,
        LEDGER_NAMESPACE,
        ABSENT_NAMESPACE,
        "gold",
        *(f"gold_{colour}" for colour in COLOURS),
    }
    databases = {d.inputs["name"] for d in graph.of(DATABASE)}
    found = [] if databases == wanted else [f"databases {sorted(databases)}"]
    published = {s.inputs["schemaName"]: s.inputs for s in graph.of(SCHEMA)}
    for feed, contract in load_feeds().items():
        text = published.get(feed, {}).get("schemaDefinition", '{"fields": []}')
        names = [field["name"] for field in json.loads(text)["fields"]]
        found += [] if names == contract.silver_schema.names else [f"{feed}: columns {names}"]
    return found


CHECKS = (check_workgroups, check_catalog)


@pytest.mark.parametrize("check", CHECKS)
def test_the_catalog_keeps_its_invariants(graph, check):
    assert check(graph) == []


def drop_limit(inputs):
    del inputs["configuration"]["bytesScannedCutoffPerQuery"]


FAULTS = {
    "a workgroup that a client overrides": (
        check_workgroups,
        lambda g: plant(g, WORKGROUP, put("configuration.enforceWorkgroupConfiguration", False)),
    ),
    "a query without a limit": (
        check_workgroups,
        lambda g: plant(g, WORKGROUP, drop_limit),
    ),
    "results in the lake": (
        check_workgroups,
        lambda g: plant(
            g,
            WORKGROUP,
            put("configuration.resultConfiguration.outputLocation", "s3://headrace-prod-silver/x"),
        ),
    ),
    "a database is missing": (check_catalog, lambda g: remove(g, DATABASE)),
    "a feed without a schema": (check_catalog, lambda g: remove(g, SCHEMA)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(graphs, fault):
    check, broken = FAULTS[fault]
    prod = graphs.get("prod")
    assert check(prod) == []
    assert check(broken(prod)) != []


@pytest.mark.parametrize("feed", load_feeds())
def test_an_avro_schema_reads_back_as_the_tables_own(feed):
    contract = load_feeds()[feed]
    docs = {column.name: column.doc for column in contract.columns} | LINEAGE_DOCS
    table = iceberg_schema(contract.silver_schema, docs)
    assert AvroSchemaConversion().avro_to_iceberg(avro_schema(contract)).fields == table.fields


def test_a_column_without_an_avro_form_is_refused(monkeypatch):
    contract = load_feeds()["trades"]
    wrong = pa.schema([pa.field("venues", pa.list_(pa.string()))])
    monkeypatch.setattr(type(contract), "silver_schema", property(lambda _: wrong))
    with pytest.raises(ValueError, match="column 'venues' of type list"):
        avro_schema(contract)


def test_analysts_do_not_see_personal_data(graphs):
    graph = graphs.everything()
    hidden = {
        f.inputs["tableData"]["tableName"]: f.inputs["tableData"]["columnWildcard"]
        for f in graph.of(FILTER)
    }
    assert hidden == {
        feed: {"excludedColumnNames": [column.name for column in contract.pii_columns]}
        for feed, contract in load_feeds().items()
        if contract.pii_columns
    }
    shown = [p.inputs["table"]["name"] for p in graph.of(PERMISSIONS) if "table" in p.inputs]
    assert not set(shown) & set(hidden), "no way round the filter"


def test_filters_wait_until_the_tables_exist(graph):
    assert graph.of(FILTER) == []


def test_roles_of_services_read_by_iam_as_before(graph):
    assert all(r.inputs["hybridAccessEnabled"] is True for r in graph.of(LOCATION))
    (settings,) = graph.of(LF_SETTINGS)
    everybody = [{"principal": "IAM_ALLOWED_PRINCIPALS", "permissions": ["ALL"]}]
    assert settings.inputs["createTableDefaultPermissions"] == everybody
    assert settings.inputs["createDatabaseDefaultPermissions"] == everybody
