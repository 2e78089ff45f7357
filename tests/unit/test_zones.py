"""Zones in buckets of their own: which roots are refused, what a lake that was moved says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from batch.gold.slots import slot_environment
from stream.cli.failure import run_command
from stream.cli.feeds import check
from stream.errors import ConfigError
from stream.lake.connect import connect_catalog, connect_lake, open_lake_store
from stream.lake.layout import TRANSIENT, ZONES
from stream.lake.sql import connect_sql
from stream.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
ZONE_SETTINGS = {f"{zone}_lake" for zone in ZONES.values()}


@pytest.fixture
def zoned(tmp_path: Path) -> Settings:
    """A lake of four folders."""
    roots = {name: f"file://{tmp_path}/{name}" for name in sorted(ZONE_SETTINGS)}
    return load_settings(home=tmp_path / "home", lake=f"file://{tmp_path}/lake", **roots)


def test_every_zone_of_the_layout_has_a_setting_and_every_setting_a_zone() -> None:
    assert {name for name in Settings.model_fields if name.endswith("_lake")} == ZONE_SETTINGS
    everything = load_settings(**dict.fromkeys(ZONE_SETTINGS, "s3://other"))
    assert everything.zones == dict.fromkeys(ZONES.values(), "s3://other")
    assert load_settings().zones == {}
    assert set(ZONES) >= TRANSIENT


@pytest.mark.parametrize(
    "roots",
    [
        {"bronze_lake": "s3://headrace-lake"},  # the default lake itself
        {"bronze_lake": "s3://headrace-lake/"},
        {"lake": "s3://one/silver", "bronze_lake": "s3://one/bronze", "gold_lake": "s3://one/gold"},
        {"lake": "s3://one/a", "bronze_lake": "s3://one/ab"},
        {"gold_lake": "s3://other", "artifacts_lake": "s3://other"},
        {"lake": "file:///data/lake", "bronze_lake": "file:///data/bronze"},
        {"lake": "file:///data/lake", "bronze_lake": "s3://data"},
    ],
)
def test_roots_that_are_equal_or_lie_apart_are_accepted(roots: dict[str, str]) -> None:
    load_settings(**roots)


@pytest.mark.parametrize(
    ("roots", "wrong"),
    [
        ({"bronze_lake": "s3://headrace-lake/bronze"}, "BRONZE_LAKE"),
        ({"lake": "s3://one/a/b", "gold_lake": "s3://one/a"}, "GOLD_LAKE"),
        ({"lake": "s3://one/a/", "gold_lake": "s3://one"}, "GOLD_LAKE"),
        ({"bronze_lake": "s3://two", "artifacts_lake": "s3://two/x"}, "ARTIFACTS_LAKE"),
        ({"gold_lake": "s3://two/x//y", "artifacts_lake": "s3://two/x"}, "ARTIFACTS_LAKE"),
        ({"lake": "file:///data", "bronze_lake": "file:///data/bronze"}, "BRONZE_LAKE"),
        ({"lake": "file:///data/lake", "bronze_lake": "file:///data/lake/../lake/b"}, "BRONZE"),
    ],
)
def test_root_inside_another_is_refused_by_its_name(roots: dict[str, str], wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"HEADRACE_{wrong}.*one inside the other.*side by side"):
        load_settings(**roots)


@pytest.mark.parametrize("root", ["", "bronze", "ftp://x", "s3://", "s3:///x", "file://x", "s3:x"])
@pytest.mark.parametrize("name", sorted(ZONE_SETTINGS))
def test_root_that_is_no_address_is_refused_by_its_name(name: str, root: str) -> None:
    with pytest.raises(ConfigError, match=rf"HEADRACE_{name.upper()}.*expected s3://bucket"):
        load_settings(**{name: root})


def test_lake_lies_in_folders_only_if_all_its_zones_do(zoned: Settings) -> None:
    assert zoned.is_in_folders
    assert not zoned.model_copy(update={"gold_lake": "s3://gold"}).is_in_folders
    assert not zoned.model_copy(update={"catalog": "glue"}).is_in_folders
    assert not load_settings().is_in_folders


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("bronze/source=trades/a.parquet", "HEADRACE_BRONZE_LAKE"),
        ("gold/target=local/builds/00000001.json", "HEADRACE_GOLD_LAKE"),
        ("dbt-artifacts/local/manifest.json", "HEADRACE_ARTIFACTS_LAKE"),
    ],
)
def test_lake_with_a_zone_left_behind_is_refused_until_it_is_moved(
    zoned: Settings, tmp_path: Path, path: str, setting: str
) -> None:
    whole = Settings(home=zoned.home, lake=zoned.lake)
    connect_lake(whole).store.put(path, b"x")

    with pytest.raises(ConfigError) as caught:
        connect_lake(zoned)
    for part in (setting, f"{zoned.lake}/{path}", "Move", "move-a-zone.md", f"unset {setting}"):
        assert part in str(caught.value)
    assert (ROOT / "deploy" / "runbooks" / "move-a-zone.md").is_file()

    connect_lake(whole).store.delete(path)  # the empty folders stay, and do not matter
    store = connect_lake(zoned).store
    store.put(path, b"x")
    assert connect_lake(zoned).store.get(path) == b"x"
    assert not (tmp_path / "lake" / path).exists()


def test_lake_without_zones_is_opened_without_a_look_for_what_was_left(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a request that a lake without zones does not need")

    monkeypatch.setattr("obstore.list", refuse)
    monkeypatch.setattr("obstore.list_with_delimiter", refuse)
    connect_lake(settings)


def test_tables_lie_in_their_zones(zoned: Settings, tmp_path: Path) -> None:
    schema = pa.schema([("feed", pa.string()), ("ts_event", pa.timestamp("us"))])
    lake = connect_lake(zoned)
    silver = lake.catalog.open_or_create("trades", schema, ["feed"], {}).iceberg
    derived = connect_catalog(zoned, "ledger", lake.store.places)
    derived.overwrite("commits", pa.table({"feed": ["trades"]}))

    assert silver.location() == f"file://{tmp_path}/lake/silver/entity=trades"
    gold = derived.open("commits").iceberg
    assert gold.location() == f"file://{tmp_path}/gold_lake/gold/ledger/commits"
    assert {lake.store.relative(gold.metadata_location).split("/")[0]} == {"gold"}
    assert not (tmp_path / "lake" / "gold").exists()


def test_derived_table_at_an_older_place_is_refused_and_stays_as_it_is(zoned: Settings) -> None:
    whole = Settings(home=zoned.home, lake=zoned.lake)
    old = connect_catalog(whole, "ledger", open_lake_store(whole).places)
    old.overwrite("commits", pa.table({"feed": ["trades"]}))
    moved = connect_catalog(zoned, "ledger", open_lake_store(zoned).places)
    with pytest.raises(ConfigError, match=r"ledger\.commits lies at .*/lake/gold.*move-a-zone"):
        moved.overwrite("commits", pa.table({"feed": ["quotes"]}))
    assert old.open("commits").iceberg.scan().to_arrow()["feed"].to_pylist() == ["trades"]


def test_dbt_is_told_the_places_of_its_tables_and_results(zoned: Settings) -> None:
    for settings, gold, artifacts in (
        (zoned, zoned.gold_lake, zoned.artifacts_lake),
        (Settings(home=zoned.home, lake=zoned.lake), zoned.lake, zoned.lake),
    ):
        told = slot_environment("athena", "blue", open_lake_store(settings))
        assert told["DBT_GOLD_LOCATION"] == f"{gold}/gold/"
        assert told["DBT_ATHENA_RESULTS"] == f"{artifacts}/athena-results/"


def test_statements_reach_the_buckets_that_they_are_given_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    zones = ("s3://bronze/x", "file:///gold", "s3://lake/other")
    for lake, given, scope in (
        ("s3://lake/a", (), ["s3://lake"]),
        ("s3://lake/a", zones, ["s3://lake", "s3://bronze"]),
        ("file:///lake", zones, ["s3://bronze", "s3://lake"]),
    ):
        with connect_sql(lake, "us-east-1", zones=given) as sql:
            assert sql.execute("SELECT scope FROM duckdb_secrets()").fetchall() == [(scope,)]


def test_check_shows_every_zone_and_which_of_them_cannot_be_reached(
    zoned: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(zoned.home))
    monkeypatch.setenv("HEADRACE_AWS", "account")
    monkeypatch.setenv("HEADRACE_LAKE", zoned.lake)
    for zone, root in zoned.zones.items():
        monkeypatch.setenv(f"HEADRACE_{zone.upper()}_LAKE", root)
    monkeypatch.setattr("stream.feeds.streamed_feeds", list)  # no stream here

    def ask() -> dict[str, Any]:
        run_command(check, ["--json"])
        return json.loads(capsys.readouterr().out)

    told = ask()
    assert {name: told["settings"][name] for name in ZONE_SETTINGS} == {
        f"{zone}_lake": root for zone, root in zoned.zones.items()
    }
    answers = {s["service"]: s["answer"] for s in told["services"] if s["is_reachable"]}
    assert {f"{zone} lake": root for zone, root in zoned.zones.items()}.items() <= answers.items()

    gold = Path(str(zoned.gold_lake).removeprefix("file://"))
    gold.rmdir()
    gold.write_bytes(b"")  # no folder any more
    assert "gold lake" in {s["service"] for s in ask()["services"] if not s["is_reachable"]}


def test_prefects_results_lie_beside_every_folder_of_the_lake() -> None:
    """They may share a bucket with a zone; no listing of ours takes them for its own."""
    resources = yaml.safe_load((ROOT / "deploy" / "prefect" / "resources.yaml").read_text())
    folders = [b["values"]["bucket_folder"] for b in resources["blocks"] if b["name"] == "results"]
    assert len(folders) == 1
    assert not set(folders) & {*ZONES, "silver", "quarantine", "ledger", "closed"}
