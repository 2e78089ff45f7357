"""The command line without a platform: help, exit codes, messages, output."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal

import click
import pyarrow as pa
import pytest

import batch.cli  # noqa: F401 - adds its verbs to the stream's
from stream.cli import headrace
from stream.cli.failure import describe, run_command
from stream.cli.output import format_cell, print_json, print_table
from stream.errors import ConfigError, ImmutableObjectError, PipelineError
from stream.feeds import load_feeds
from stream.producers.simulate import Truth
from stream.settings import Settings

VERBS = [
    *("demo", "up", "down", "status", "ui", "top", "plot", "produce", "run", "query", "lag"),
    *("prove", "ledger", "redrive", "feeds", "check"),
    *("replay", "extract", "extracts", "backfill", "compact", "expire-snapshots"),
    *("remove-orphans", "retention", "gold", "docs", "alerts", "api", "lineage"),
    *("archive", "bench"),
]


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, home):
    monkeypatch.setenv("HEADRACE_HOME", str(home))


def run(*arguments: str) -> int:
    return run_command(headrace, arguments)


def test_help_lists_every_verb(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in VERBS)
    assert sorted(headrace.commands) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_verb_help_has_examples_and_json(capsys, verb):
    assert run(verb, "--help") == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert f"headrace {verb}" in text
    assert "--json" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["up", "--nonsense"],
        ["run"],
        ["query"],
        ["produce", "trades", "--rate", "-1"],
        ["produce", "trades", "--rss", "http://x", "--venue", "kraken"],
        ["produce", "trades", "--from-file", "/nowhere.jsonl"],
        ["run", "trade"],
        ["ledger", "nonsense"],
        ["feeds", "nonsense"],
        ["up", "nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_use_exits_with_2_and_no_traceback(capsys, arguments):
    assert run(*arguments) == 2
    text = capsys.readouterr().err
    assert text.strip()
    assert "Traceback" not in text


def test_unknown_feed_lists_the_feeds_and_the_nearest(capsys):
    run("ledger", "trade")
    text = capsys.readouterr().err
    assert ", ".join(load_feeds()) in text
    assert "Did you mean 'trades'?" in text


def test_feed_without_a_stream_cannot_be_run_and_says_what_fills_it(capsys):
    assert run("run", "prices_daily") == 2
    assert "headrace backfill --feed prices_daily" in capsys.readouterr().err


def test_wrong_setting_exits_with_2_and_names_it(capsys, monkeypatch):
    monkeypatch.setenv("HEADRACE_LANES", "many")
    assert run("status") == 2
    assert "HEADRACE_LANES" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["lag"], ["query", "select 1"], ["produce", "trades"], ["prove"]])
def test_verb_without_platform_says_how_to_start_it(capsys, verb):
    assert run(*verb) == 2
    assert "headrace up" in capsys.readouterr().err


def test_status_of_nothing_exits_with_1_and_says_so(capsys):
    assert run("status", "--json") == 1
    assert json.loads(capsys.readouterr().out)["phase"] == "stopped"


def test_down_of_nothing_is_no_error(capsys):
    assert run("down", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"was_running": False}


def test_up_with_an_account_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("HEADRACE_AWS", "account")
    assert run("up") == 2
    assert "HEADRACE_AWS=account" in capsys.readouterr().err


def test_feeds_json_holds_columns_of_every_feed(capsys):
    assert run("feeds", "--json") == 0
    contracts = json.loads(capsys.readouterr().out)
    assert [contract["feed"] for contract in contracts] == sorted(load_feeds())
    assert all(contract["columns"] for contract in contracts)


def test_feeds_write_outside_the_source_tree_is_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run("feeds", "--write") == 2
    assert "root" in capsys.readouterr().err


def test_check_hides_secrets_and_reports_unreachable(capsys, monkeypatch):
    monkeypatch.setenv("HEADRACE_FMP_API_KEY", "very-secret")
    monkeypatch.setenv("HEADRACE_PII_KEY", "very-secret" * 3)
    assert run("check", "--json") == 1
    text = capsys.readouterr().out
    assert "very-secret" not in text
    report = json.loads(text)
    assert report["services"][0]["is_reachable"] is False
    assert report["settings"]["fmp_api_key"] == "**********"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong"), 2),
        (PipelineError("broken"), 1),
        (ImmutableObjectError("changed"), 1),
        (OSError(28, "No space left on device", "/data"), 1),
        (KeyError("x"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.UsageError("no"), 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_error_of_a_verb_becomes_its_exit_code(capsys, error, code):
    @click.command()
    def fails() -> None:
        raise error

    assert run_command(fails, []) == code
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert bool(text.strip()) == (code != 130)


def test_description_of_a_full_disk_names_file_and_advice():
    text = describe(OSError(28, "No space left on device", "/data/x"))
    assert text == (
        "/data/x: the disk is full; free space and start again, nothing committed is lost"
    )


def test_description_of_lost_memory_is_no_defect_and_names_what_is_needed():
    text = describe(pa.ArrowMemoryError("malloc of size 8 failed"))
    assert text == (
        "out of memory: give the process more (a dataflow needs 512 MB) and start it again, "
        "nothing committed is lost"
    )


def test_description_of_lost_memory_behind_another_error_is_no_defect():
    error = ValueError("cannot read")
    error.__cause__ = MemoryError()
    assert describe(error).startswith("out of memory")


def test_description_of_no_more_threads_names_both_limits():
    text = describe(RuntimeError("can't start new thread"))
    assert "memory or the number of processes" in text
    assert "defect" not in text


def test_description_of_a_defect_is_one_line():
    assert "\n" not in describe(ValueError("one\ntwo"))


def test_output_reader_that_goes_away_is_no_error():
    code = (
        "import sys, click\nfrom stream.cli.failure import run_command\n"
        "@click.command()\ndef talk():\n    [click.echo('x' * 1000) for _ in range(10_000)]\n"
        "sys.exit(run_command(talk, []))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_json_keeps_decimals_and_bytes_exact(capsys):
    print_json({"price": Decimal("1.10"), "text": b"ok", "raw": b"\xff"})
    assert json.loads(capsys.readouterr().out) == {
        "price": "1.10",
        "text": "ok",
        "raw": {"base64": "/w=="},
    }


def test_table_in_a_pipe_is_not_cut(capsys):
    print_table([{"key": "k" * 300, "rows": 1}])
    assert "k" * 300 in capsys.readouterr().out


def test_table_prints_brackets_as_they_are(capsys):
    print_table([{"key": "s3://bucket[/prefix] [red]x[/red]"}])
    assert "s3://bucket[/prefix] [red]x[/red]" in capsys.readouterr().out


def test_check_prints_every_setting(capsys):
    assert run("check") == 1
    text = capsys.readouterr().out
    assert all(f"HEADRACE_{name.upper()} " in text for name in Settings.model_fields)


def test_json_of_a_dataclass_keeps_its_counters(capsys):
    truth = Truth(messages=3)
    truth.malformed["nan"] += 2
    print_json({"truth": truth})
    assert json.loads(capsys.readouterr().out)["truth"]["malformed"] == {"nan": 2}


def test_table_says_how_many_rows_it_left_out(capsys):
    print_table([{"n": n} for n in range(50)], max_rows=40)
    assert "10 more rows" in capsys.readouterr().out


def test_cell_of_mappings_is_json():
    assert format_cell({"a": (1, 2)}) == '{"a": [1, 2]}'
