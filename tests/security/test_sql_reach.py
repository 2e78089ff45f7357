"""SQL reads the tables of the lake and nothing else; names and values never become SQL."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.gold_views import add_gold
from stream.lake.connect import connect_catalog, connect_lake
from stream.lake.gold import GoldBuild, slot_file
from stream.lake.sql import connect_sql, lock_sql, quote_name, quote_text
from stream.lake.store import create_bucket
from stream.local.roto import free_port
from stream.query import run_query
from stream.settings import load_settings

DAYS = ("--from", "2026-01-05", "--to", "2026-01-05")
BACKFILL = ("backfill", "--feed", "prices_daily", "--source", "simulated", *DAYS)
HOSTILE = [
    'a"; DROP TABLE planted; --',
    "a'; DROP TABLE planted; --",
    "x y",
    "select",
    "ü",
    "\\",
    "*",
]
names = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1)


@pytest.fixture
def lake(say, planted, home):
    """A lake with rows, and what SQL must not reach beside it."""
    assert say(*BACKFILL)[0] == 0
    (home / "pii.key").write_text("a key of this home")
    return load_settings()


def test_query_of_a_table_answers(lake):
    assert run_query(lake, "SELECT count(*) AS n FROM prices_daily").to_pylist() == [{"n": 100}]
    assert run_query(lake, "SELECT count(*) AS n FROM ledger_slices").to_pylist() == [{"n": 2}]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('{home}/pii.key')",
        "FROM read_blob('{home}/pii.key')",
        "SELECT * FROM '{bronze}'",
        "FROM read_json_auto('{bronze}')",
        "FROM glob('{home}/*')",
        "FROM read_text('{home}/lake/../pii.key')",
        "FROM sniff_csv('{home}/pii.key')",
        "FROM read_csv('/etc/passwd')",
        "FROM read_parquet('http://127.0.0.1:{port}/x.parquet')",
        "FROM read_text('https://127.0.0.1:{port}/x')",
        "FROM read_text('s3://other/x')",
        "WITH x AS (FROM read_text('{home}/pii.key')) SELECT * FROM x, prices_daily LIMIT 1",
        "SELECT (SELECT content FROM read_text('{home}/pii.key'))",
        "FROM query('FROM read_text(''{home}/pii.key'')')",
        "EXPLAIN ANALYZE FROM read_text('{home}/pii.key')",
        "SUMMARIZE '{bronze}'",
        "DESCRIBE FROM read_csv('/etc/passwd')",
        "FROM lake",
        "FROM settings",
        "FROM sql",
    ],
)
def test_query_reaches_no_other_file_address_or_variable(lake, home, serve, sql):
    server = serve(b"")
    [bronze] = (home / "lake" / "bronze").rglob("*.jsonl*")
    text = sql.format(home=home, bronze=bronze, port=server.port)
    with pytest.raises(ConfigError) as raised:
        run_query(lake, text)
    assert "a key of this home" not in str(raised.value)
    assert server.asked == []


@pytest.mark.parametrize(
    "sql",
    [
        "COPY prices_daily TO '{home}/stolen.csv'",
        "EXPORT DATABASE '{home}/stolen'",
        "ATTACH '{home}/stolen.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA enable_external_access = true",
        "CREATE SECRET x (TYPE s3)",
        "CALL pragma_version()",
        "USE memory",
        "CHECKPOINT",
        "SELECT 1; COPY prices_daily TO '{home}/stolen.csv'",
        "EXPLAIN ANALYZE COPY prices_daily TO '{home}/stolen.csv'",
        "WITH x AS (SELECT 1) INSERT INTO prices_daily SELECT * FROM prices_daily",
    ],
)
def test_query_changes_nothing_and_lifts_no_bar(lake, home, sql):
    with pytest.raises(ConfigError):
        run_query(lake, sql.format(home=home))
    assert not list(home.glob("stolen*"))


def test_lock_cannot_be_taken_back():
    with duckdb.connect() as connection:
        lock_sql(connection, [])
        for name, value in (
            ("enable_external_access", "true"),
            ("allowed_paths", "['/etc/passwd']"),
        ):
            with pytest.raises(duckdb.InvalidInputException, match="locked"):
                connection.execute(f"SET {name} = {value}")
        with pytest.raises(duckdb.PermissionException):
            connection.execute("FROM read_text('/etc/passwd')")


@pytest.fixture
def s3(monkeypatch):
    """An emulated S3 under the planted credentials."""
    port = free_port()
    command = [Path(sys.executable).with_name("roto-server"), "--ephemeral", "--host", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("HEADRACE_LAKE", "s3://planted-lake/inner")
        create_bucket("s3://planted-lake", region="us-east-1", endpoint=f"http://127.0.0.1:{port}")
        yield
        process.terminate()


def test_query_of_a_lake_on_s3_reads_its_tables_alone_and_shows_no_secret(
    say, planted, s3, secrets_in
):
    assert say(*BACKFILL)[0] == 0
    settings = load_settings()
    connect_lake(settings).store.put("private.txt", b"not a table")
    assert run_query(settings, "SELECT count(*) AS n FROM prices_daily").to_pylist() == [{"n": 100}]
    for sql in (
        "FROM read_text('s3://planted-lake/inner/private.txt')",
        "FROM glob('s3://planted-lake/**')",
    ):
        with pytest.raises(ConfigError, match="reads the tables and views of the lake"):
            run_query(settings, sql)
    shown = str(run_query(settings, "FROM duckdb_secrets()").to_pylist())
    assert "planted-lake" in shown
    assert secrets_in(shown.encode()) == []


@settings(max_examples=30)
@given(name=names)
@example(name=HOSTILE[0])
@example(name=HOSTILE[1])
def test_quoted_name_is_one_name_whatever_it_holds(name):
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE planted AS SELECT 1 AS x")
        connection.execute(
            f"CREATE VIEW {quote_name(name + '_')} AS SELECT 7 AS {quote_name(name)}"
        )
        found = connection.execute(f"FROM {quote_name(name + '_')}")
        assert ([c[0] for c in found.description], found.fetchall()) == ([name], [(7,)])
        assert connection.execute("FROM planted").fetchall() == [(1,)]


@settings(max_examples=30)
@given(value=st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
@example(value=HOSTILE[0])
@example(value=HOSTILE[1])
def test_quoted_text_is_that_text_whatever_it_holds(value):
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE planted AS SELECT 1 AS x")
        assert connection.execute(f"SELECT {quote_text(value)}").fetchall() == [(value,)]
        assert connection.execute("FROM planted").fetchall() == [(1,)]


@pytest.mark.parametrize("name", ["x; drop table prices_daily", 'say "hi"', "select", "with-dash"])
def test_table_with_a_hostile_name_in_the_namespace_harms_no_query(lake, name):
    store = connect_lake(lake).store
    rows = pa.table({"x": pa.array([1], pa.int64())})
    connect_catalog(lake, lake.namespace, store.places).overwrite(name, rows)
    found = run_query(lake, "SELECT table_name FROM information_schema.tables").to_pylist()
    assert {"table_name": name} in found
    assert run_query(lake, "SELECT count(*) AS n FROM prices_daily").to_pylist() == [{"n": 100}]


@pytest.mark.parametrize("name", HOSTILE)
def test_gold_record_with_a_hostile_name_makes_a_view_of_that_name_and_nothing_else(tmp_path, name):
    file = slot_file(tmp_path, "00000001-1")
    file.parent.mkdir(parents=True)
    with duckdb.connect(str(file)) as gold:
        gold.execute(f"CREATE SCHEMA {quote_name(name)}")
        gold.execute(f"CREATE TABLE {quote_name(name)}.{quote_name(name)} AS SELECT 7 AS x")
    build = GoldBuild(1, "00000001-1", 0, "", {}, relations={name: name})
    with connect_sql(f"file://{tmp_path}", "us-east-1") as connection:
        connection.execute("CREATE TABLE planted AS SELECT 1 AS x")
        add_gold(connection, tmp_path, build, lambda _: True)
        assert connection.execute(f"FROM gold.{quote_name(name)}").fetchall() == [(7,)]
        assert connection.execute("FROM planted").fetchall() == [(1,)]
