"""Whatever is changed or missing on the way is named, and the exit code says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream.cli import headrace
from stream.cli.failure import run_command


def flip(path: Path) -> None:
    """Change one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_harmed_object_is_named_whatever_is_asked(
    traced: Any, harm: Callable[[Path], None]
) -> None:
    item = traced.land_mixed()
    traced.small.land_trades(2)
    record = traced.small.results[0].record
    objects = {
        "bronze": record.bronze.path,
        "silver": record.silver[0].path,
        "quarantine": record.quarantine.path,
    }
    for kind, path in objects.items():
        file = traced.small.path(path)
        kept = file.read_bytes()
        harm(file)
        suffix = "changed" if file.exists() else "missing"
        found = traced.ask(item.id)
        assert [(d.kind, d.where) for d in found.broken] == [(f"{kind}_{suffix}", path)]
        assert found.verdict.startswith("BROKEN: 1 link")
        file.write_bytes(kept)
    assert traced.ask(item.id).is_whole


def test_row_of_a_harmed_object_is_broken_and_shows_no_bytes(traced: Any) -> None:
    traced.land_mixed()
    flip(traced.small.path(traced.small.results[0].record.bronze.path))
    found = traced.ask("trades", "trade_id=1")
    assert [d.kind for d in found.broken] == ["bronze_changed"]
    assert found.records == []


def test_missing_entry_of_the_ledger_is_named(traced: Any) -> None:
    item = traced.land_mixed()
    traced.small.land_trades(2)
    traced.small.land_trades(2)
    [entry] = traced.small.path("ledger/feed=trades/").glob("000000000003-*")
    entry.unlink()
    found = traced.ask(item.id)
    assert "ledger_entry_missing" in {d.kind for d in found.broken}


def test_row_count_that_the_ledger_does_not_know_is_named(traced: Any) -> None:
    item = traced.land_mixed()
    state = traced.small.results[0].record
    assert state.silver_rows == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream.lake.history.SliceState.silver_rows", 6)
        found = traced.ask(item.id)
    [broken] = found.broken
    assert (broken.kind, broken.where) == ("silver_rows", item.id)


@pytest.fixture
def say(
    traced: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Type the verb; exit code, stdout, stderr."""
    monkeypatch.setenv("HEADRACE_HOME", str(traced.small.settings.home))
    monkeypatch.setenv("HEADRACE_LAKE", traced.small.settings.lake)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_command(headrace, ("lineage", *arguments))
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return run


def test_command_prints_both_ways_and_the_bytes_that_a_terminal_cannot_obey(
    traced: Any, say: Any, tmp_path: Path
) -> None:
    bad = b'\x1b[2J{"venue":"sim"\xff'
    item = traced.small.slice([traced.trade(1, at_ns=traced.small.arrival_ns), bad])
    traced.small.land(item)
    code, out, _ = say(item.id, "--bytes")
    assert code == 0
    assert "back: · slice" in out
    assert "forward: · slice" in out
    assert r"\x1b[2J" in out
    assert "\x1b" not in out
    assert "whole:" in out
    file = tmp_path / "records"
    code, out, err = say("shardId-000000000000:1001", "--output", str(file), "--json")
    assert (code, file.read_bytes()) == (0, bad)
    assert "wrote" in err
    assert json.loads(out)["records"][0]["verdict"] == "not compared"
    code, out, _ = say("trades", "trade_id=1", "--back")
    assert (code, "forward:" in out, "decoded again: equal" in out) == (0, False, True)


def test_command_exits_1_for_a_broken_link_and_2_for_what_is_not_there(
    traced: Any, say: Any
) -> None:
    item = traced.land_mixed()
    flip(traced.small.path(traced.small.results[0].record.bronze.path))
    code, out, _ = say(item.id)
    assert code == 1
    assert "bronze_changed" in out
    assert "BROKEN: 1 link" in out
    code, out, err = say("trades#77")
    assert (code, out) == (2, "")
    assert "they go from #1 to #2" in err
    code, _, err = say("trades", "symbol=ACME")
    assert code == 2
    assert "headrace lineage trades venue=sim symbol=ACME trade_id=1" in err
