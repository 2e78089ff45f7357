"""The batch verbs as a user types them, on a lake in a folder: what they say, and exit codes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import batch.extracts.fmp as fmp
from batch.cli import headrace
from stream.cli.failure import run_command
from stream.clock import SYSTEM_CLOCK, to_utc

DAYS = ("--from", "2026-01-05", "--to", "2026-01-07")
SIMULATED = ("--feed", "prices_daily", "--source", "simulated", *DAYS)


@pytest.fixture(autouse=True)
def _lake(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(home))
    monkeypatch.setenv("HEADRACE_LAKE", f"file://{home}/lake")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a verb; returns its exit code and what it printed on stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_command(headrace, arguments)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return run


def rows(say: Any, sql: str) -> Any:
    return json.loads(say("query", sql, "--json")[1])


def test_backfill_lands_every_day_and_a_second_one_does_nothing(say: Any) -> None:
    code, out, _ = say("backfill", *SIMULATED)
    assert code == 0
    assert "3/3 chunks done (0 before, 3 now" in out
    code, out, _ = say("backfill", *SIMULATED)
    assert (code, "3/3 chunks done (3 before, 0 now" in out) == (0, True)
    sql = "SELECT count(*) AS n, count(DISTINCT session_date) AS d FROM prices_daily"
    assert rows(say, sql) == [{"n": 300, "d": 3}]
    assert say("prove", "prices_daily")[0] == 0


def test_extract_is_in_no_table_until_it_is_replayed(say: Any) -> None:
    code, out, _ = say(
        "extract", "simulated", "trades", *DAYS, "--run-id", "mine", "--option", "rows_per_day=50"
    )
    assert (code, "mine: 150 items in 3 parts" in out) == (0, True)
    assert [r["run_id"] for r in json.loads(say("extracts", "--json")[1])] == ["mine"]
    replay = ("replay", "trades", "--source", "extract", "--run-id", "mine")
    code, out, _ = say(*replay)
    assert (code, "150 rows in" in out, "A dry run" in out) == (0, True, True)
    assert say("query", "FROM trades")[0] == 2
    code, out, _ = say(*replay, "--apply")
    assert (code, "3 slices landed" in out) == (0, True)
    assert "unchanged" in say(*replay, "--apply")[1]
    assert rows(say, "SELECT sum(trades)::INT AS n FROM bars_1m_current") == [{"n": 150}]


def test_vendors_dump_lands_through_its_mapping(say: Any, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.mkdir()
    (dump / "ticks.csv").write_text(
        "Trade #;Ticker;Last Px;Qty;Time\n"
        "7;acme;10.25;3;2026-01-05 09:30:00.000001\n"
        "8;acme;oops;3;2026-01-05 09:30:01.000000\n"
    )
    mapping = tmp_path / "acme.toml"
    mapping.write_text(
        'feed = "trades"\n[columns]\ntrade_id = "Trade #"\nsymbol = "Ticker"\nprice = "Last Px"\n'
        'size = "Qty"\n[constants]\nvenue = "sim"\n[times.ts_event_ns]\ncolumn = "Time"\n'
        'format = "%Y-%m-%d %H:%M:%S.%f"\nzone = "America/New_York"\n[csv]\ndelimiter = ";"\n'
    )
    options = ("--path", str(dump), "--mapping", str(mapping), "--run-id", "acme-1")
    assert say("extract", "acme", "trades", *options)[0] == 0
    assert say("replay", "trades", "--source", "extract", "--run-id", "acme-1", "--apply")[0] == 0
    found = rows(say, "SELECT symbol, price::VARCHAR AS price, ts_event FROM trades")
    assert found == [
        {"symbol": "ACME", "price": "10.25000000", "ts_event": "2026-01-05T14:30:00.000001"}
    ]
    assert rows(say, "SELECT reason FROM quarantine") == [{"reason": "wrong_type"}]


def test_replay_of_a_range_says_that_nothing_changed(say: Any) -> None:
    say("backfill", *SIMULATED)
    code, out, _ = say("replay", "prices_daily", "--from", "2020-01-01", "--to", "2100-01-01")
    assert (code, "unchanged: every slice came out exactly" in out) == (0, True)


def test_maintenance_verbs_are_dry_until_told_and_say_so(say: Any) -> None:
    say("extract", "simulated", "trades", *DAYS, "--run-id", "a", "--option", "rows_per_part=1000")
    say("replay", "trades", "--source", "extract", "--run-id", "a", "--apply")
    for verb in ("compact", "expire-snapshots", "remove-orphans", "retention"):
        code, out, _ = say(verb)
        assert (code, "A dry run" in out) == (0, True), verb
        code, out, _ = say(verb, "--apply", "--json")
        assert code == 0
        assert {report["table"] for report in json.loads(out)} >= {"bars_1m", "trades"}, verb
    assert say("prove", "trades")[0] == 0


def test_backfill_as_a_record_is_written_run_and_marked(
    say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    today = to_utc(SYSTEM_CLOCK.now_ns()).date()
    why = (
        "--new-record",
        f"{today}-three-days",
        "--reason",
        "Three days to show what a record is.",
        "--owner",
        "tests",
    )
    assert say("backfill", *SIMULATED, *why)[0] == 0
    record = tmp_path / "deploy" / "backfills" / f"{today}-three-days.yaml"
    assert "status: done" in record.read_text()
    code, out, _ = say("backfill", "--record", str(record))
    assert (code, "3 before, 0 now" in out) == (0, True)
    assert say("backfill", "--record", str(record), "--feed", "trades")[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("replay", "trades"), "say which arrivals"),
        (("replay", "trades", "--source", "extract"), "needs --run-id"),
        (("replay", "nope", "--from", "2026-01-01", "--to", "2026-01-02"), "no feed 'nope'"),
        (("replay", "trades", "--from", "2026-01-02", "--to", "2026-01-02"), "is not before"),
        (("replay", "trades", "--from", "yesterday", "--to", "2026-01-02"), "is not an ISO time"),
        (("replay", "trades", "--from", "2026-01-01", "--to", "2026-01-02"), "does not exist"),
        (("replay", "trades", "--source", "extract", "--run-id", "x"), "no extract 'x'"),
        (("extract", "nowhere", "trades"), "no source 'nowhere'; sources are: fmp"),
        (("extract", "files", "trades"), "say where they lie"),
        (("extract", "trades", "trades", "--path", "."), "not the name of a feed"),
        (("extract", "simulated", "trades"), "say the first and the last day"),
        (("extract", "simulated", "trades", *DAYS, "--option", "rows"), "expected key=value"),
        (("extract", "fmp", "prices_daily", "--symbol", "A", *DAYS), "HEADRACE_FMP_API_KEY"),
        (("extract", "mongo", "transactions"), "HEADRACE_MONGO_URI"),
        (("backfill", "--feed", "trades"), "missing --source"),
        (("backfill", "--feed", "x", "--source", "simulated", *DAYS), "no data set 'x'"),
        (
            ("backfill", *SIMULATED[:4], "--from", "2026-01-07", "--to", "2026-01-05"),
            "2026-01-07",
        ),
        (("compact", "nope"), "does not exist"),
        (("compact", "--from", "soon"), "'soon' is not a day"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_code_2(
    say: Any, words: tuple[str, ...], message: str
) -> None:
    code, out, err = say(*words)
    assert (code, out) == (2, "")
    assert message in err


class Refuses(BaseHTTPRequestHandler):
    """An FMP that knows no key, or is no FMP at all."""

    body, kind, status = b"{}", "application/json", 401

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve one answer in FMP's place."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, kind: str, body: bytes) -> None:
        handler = type("Handler", (Refuses,), {"status": status, "kind": kind, "body": body})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        real, url = fmp.FmpExtractor, f"http://127.0.0.1:{server.server_address[1]}/stable"
        monkeypatch.setattr(
            fmp, "FmpExtractor", lambda key, **options: real(key, base_url=url, **options)
        )
        monkeypatch.setenv("HEADRACE_FMP_API_KEY", "secret-key")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind", "body", "message"),
    [
        (401, "application/json", b'{"Error Message": "Invalid API KEY secret-key"}', "key"),
        (200, "application/json", b'{"Error Message": "Invalid API KEY."}', "Invalid API KEY"),
        (200, "text/html", b"<html>sign in</html>", "text/html"),
    ],
)
def test_api_that_refuses_or_answers_html_leaves_nothing_half_written(
    say: Any, serve: Any, status: int, kind: str, body: bytes, message: str
) -> None:
    serve(status, kind, body)
    code, _, err = say("extract", "fmp", "prices_daily", "--symbol", "AAPL", *DAYS, "--run-id", "a")
    assert code == 2
    assert message in err
    assert "secret-key" not in err
    assert json.loads(say("extracts", "--json")[1]) == []
