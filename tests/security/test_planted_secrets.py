"""Secrets are planted everywhere, the real paths run and fail, and every byte is searched."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import logging
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.extracts.fmp import FmpExtractor
from batch.extracts.mongo import MongoExtractor
from batch.prefect_server import plan_prefect
from stream.lake.secret import read_secret
from stream.local.platform import feed_environment
from stream.settings import SECRETS, bare_environment, child_environment, load_settings
from stream.telemetry import set_up_logging

DAYS = ("--from", "2026-01-05", "--to", "2026-01-06")
PRICES = (
    b'[{"symbol":"AAPL","date":"2026-01-05","open":227.2,"high":233.13,"low":226.65,'
    b'"close":232.8,"volume":44489128,"change":5.6,"changePercent":2.46479,"vwap":230.86}]'
)
EVERY_LOG = pytest.mark.parametrize("log_format", ["text", "json"])
pytestmark = pytest.mark.usefixtures("planted")


@pytest.fixture(autouse=True)
def _talkative(monkeypatch):
    monkeypatch.setenv("HEADRACE_LOG_LEVEL", "DEBUG")


@pytest.fixture
def fmp(serve, monkeypatch):
    """A server in FMP's place."""
    server = serve()
    address = f"http://127.0.0.1:{server.port}/stable"
    monkeypatch.setitem(FmpExtractor.__init__.__kwdefaults__, "base_url", address)
    return server


def test_every_secret_of_the_settings_is_planted(planted):
    assert {f"HEADRACE_{name.upper()}" for name in SECRETS} <= set(planted)


def test_search_finds_what_is_planted_in_every_format(planted, tmp_path, secrets_below):
    secret = planted["HEADRACE_FMP_API_KEY"]
    (tmp_path / "plain.json").write_text(json.dumps({"key": secret}))
    (tmp_path / "coded.log").write_bytes(base64.b64encode(f"a{secret}b".encode()))
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(secret.encode()))
    pq.write_table(
        pa.table({"x": [f"?key={secret}"]}), tmp_path / "rows.parquet", compression="zstd"
    )
    (tmp_path / secret).write_bytes(b"")
    assert len(secrets_below(tmp_path)) == 5


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_check_shows_every_setting_and_no_secret(say, secrets_in, arguments):
    _, printed = say("check", *arguments)
    assert "fmp_api_key" in printed.lower()
    assert secrets_in(printed.encode()) == []


@EVERY_LOG
@pytest.mark.parametrize("status", ["401 Unauthorized", "302 Found", "200 OK"])
def test_extract_that_fmp_refuses_shows_no_secret(
    say, fmp, answer, planted, home, monkeypatch, secrets_in, secrets_below, log_format, status
):
    monkeypatch.setenv("HEADRACE_LOG_FORMAT", log_format)
    key = planted["HEADRACE_FMP_API_KEY"]
    body = json.dumps({"Error Message": f"Invalid API KEY {key}"}).encode()
    fmp.answers = [answer(body, status, Location=f"https://evil.example/?apikey={key}")]
    code, printed = say("extract", "fmp", "prices_daily", "--symbol", "AAPL", *DAYS)
    assert code == 2
    assert "FMP" in printed
    assert key.encode() in fmp.asked[0], "the key did not travel: nothing was tried"
    assert secrets_in(printed.encode()) == []
    assert secrets_below(home) == []


@EVERY_LOG
def test_history_that_lands_leaves_no_secret_in_any_object(
    say, fmp, answer, planted, home, monkeypatch, secrets_in, secrets_below, log_format
):
    monkeypatch.setenv("HEADRACE_LOG_FORMAT", log_format)
    fmp.answers = [answer(PRICES, Content_Type="application/json")]
    ask = ("extract", "fmp", "prices_daily", "--symbol", "AAPL", "--run-id", "mine", *DAYS)
    replay = ("replay", "prices_daily", "--source", "extract", "--run-id", "mine", "--apply")
    positions = ("--feed", "positions", "--source", "simulated")
    printed = ""
    for verb in (
        ask,
        replay,
        ("backfill", *positions, "--from", "2026-01-05", "--to", "2026-01-05"),
        ("query", "SELECT * FROM positions", "--json"),
        ("ledger", "positions"),
        ("prove", "positions"),
    ):
        code, said = say(*verb)
        assert code == 0, said
        printed += said
    assert planted["HEADRACE_FMP_API_KEY"].encode() in fmp.asked[0]
    assert len([path for path in (home / "lake").rglob("*") if path.is_file()]) > 8
    assert secrets_in(printed.encode()) == []
    assert secrets_below(home) == []


@EVERY_LOG
def test_mongodb_that_does_not_answer_shows_no_secret(
    say, home, monkeypatch, secrets_in, secrets_below, log_format
):
    monkeypatch.setenv("HEADRACE_LOG_FORMAT", log_format)
    monkeypatch.setattr("batch.extracts.mongo.ATTEMPTS", 1)
    monkeypatch.setitem(MongoExtractor.__init__.__kwdefaults__, "server_seconds", 0.2)
    code, printed = say("extract", "mongo", "positions")
    assert (code, "MongoDB positions" in printed) == (1, True)
    assert secrets_in(printed.encode()) == []
    assert secrets_below(home) == []


def test_wrong_setting_beside_secrets_shows_none(say, monkeypatch, secrets_in):
    monkeypatch.setenv("HEADRACE_PII_KEY", "pl4nted-short")
    monkeypatch.setenv("HEADRACE_LANES", "many")
    code, printed = say("check")
    assert (code, "HEADRACE_PII_KEY" in printed) == (2, True)
    assert "pl4nted-short" not in printed
    assert secrets_in(printed.encode()) == []


@EVERY_LOG
def test_secret_that_is_read_from_aws_is_in_no_log_line_at_any_level(
    serve, answer, planted, monkeypatch, capfd, secrets_in, log_format
):
    secret = planted["HEADRACE_PII_KEY"]
    server = serve(answer(json.dumps({"SecretString": secret}).encode()))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    set_up_logging("DEBUG", log_format)
    found = read_secret("pii", "us-east-1", "pii_key")
    logging.getLogger("stream").debug("read %s", found)
    assert found.get_secret_value() == secret
    assert planted["AWS_SESSION_TOKEN"].encode() in server.asked[0]
    printed = "".join(capfd.readouterr())
    assert "read **********" in printed
    assert secrets_in(printed.encode()) == []


def test_library_that_logs_documents_or_requests_whole_is_quiet_at_debug():
    set_up_logging("DEBUG")
    for name in ("pymongo.command", "botocore.endpoint", "botocore.parsers", "httpcore.http11"):
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG), name
    assert logging.getLogger("stream").isEnabledFor(logging.DEBUG)


def test_child_gets_the_secrets_that_it_needs_and_no_other(planted):
    settings = load_settings()

    def secrets_of(environment):
        return {name for name, value in planted.items() if environment.get(name) == value}

    aws = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    assert secrets_of(child_environment(settings)) == aws
    assert secrets_of(feed_environment(settings, "trades")) == aws
    assert secrets_of(feed_environment(settings, "positions")) == {*aws, "HEADRACE_PII_KEY"}
    assert secrets_of(bare_environment()) == {"AWS_ACCESS_KEY_ID"}
    plan = plan_prefect(settings)
    assert secrets_of(plan.server.env) == {"AWS_ACCESS_KEY_ID"}
    assert secrets_of(plan.flows.env) == set(planted)
    assert not any(secret in repr(plan) for secret in planted.values())


def test_dbt_process_has_no_secret_of_ours_in_its_environment(say, home, monkeypatch):
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    monkeypatch.setattr("batch.gold.dbt_process.DBT", (sys.executable, "-c", show))
    assert say("backfill", "--feed", "prices_daily", "--source", "simulated", *DAYS)[0] == 0
    assert say("gold")[0] == 1  # what took dbt's place builds nothing
    [log] = (home / "gold").rglob("dbt.jsonl")
    environment = json.loads(log.read_text())
    assert environment["HEADRACE_HOME"] == str(home)
    assert not {f"HEADRACE_{name.upper()}" for name in SECRETS} & set(environment)


def test_flow_takes_no_secret_as_a_parameter(root):
    """Prefect keeps parameters, shows them and puts them into events."""
    flows = 0
    for path in (root / "batch" / "flows").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                "flow" in ast.unparse(decorator) for decorator in node.decorator_list
            ):
                flows += 1
                names = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
                assert not [n for n in names if n in SECRETS or "password" in n or "token" in n]
    assert flows >= 6


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gold_with_its_artifacts_and_logs_holds_no_secret(
    say, home, secrets_in, secrets_below, tmp_path
):
    for feed in ("prices_daily", "positions"):
        assert say("backfill", "--feed", feed, "--source", "simulated", *DAYS)[0] == 0
    code, printed = say("gold")
    assert code == 0, printed
    names = {path.name for path in home.rglob("*") if path.is_file()}
    assert {"manifest.json", "run_results.json", "dbt.jsonl", "headrace.duckdb"} <= names
    assert secrets_in(printed.encode()) == []
    assert secrets_below(home) == []


def test_file_that_holds_a_secret_is_its_owners_alone(say, home, monkeypatch):
    monkeypatch.delenv("HEADRACE_PII_KEY")
    before = os.umask(0o000)
    try:
        assert say("backfill", "--feed", "positions", "--source", "simulated", *DAYS)[0] == 0
    finally:
        os.umask(before)
    key = (home / "pii.key").read_text().strip().encode()
    holders = [p for p in Path(home).rglob("*") if p.is_file() and key in p.read_bytes()]
    assert [(p.name, oct(p.stat().st_mode & 0o777)) for p in holders] == [("pii.key", "0o600")]
