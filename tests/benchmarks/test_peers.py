"""The comparison's job, judge and two of its runners, on an input of seconds."""

import sys

import pytest
from peers.check import differences
from peers.compare import prepare_input
from peers.contenders import CONTENDERS, Contender, find_contenders
from peers.measure import Outcome, run_contender
from peers.report import Pair, build_rows

MESSAGES = 6_000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers") / "input-of-all"
    return folder, prepare_input(folder, MESSAGES, slice_messages=500)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["headrace", "duckdb"])
def test_runner_gives_what_the_plain_program_gives(prepared, name):
    folder, expected = prepared
    assert expected["days"] == 2
    assert expected["rejected"] > 0
    assert expected["messages"] - expected["rejected"] > expected["silver_rows"]

    outcome = run_contender(
        find_contenders([name])[0], folder / "input", folder / f"out-{name}", expected
    )

    assert outcome.problem == ""
    assert outcome.messages == expected["messages"]
    assert outcome.cpu_seconds > 0
    assert outcome.bytes_written > 0
    assert outcome.peak_rss_bytes > 20 << 20
    assert not (folder / f"out-{name}").exists()


@pytest.mark.slow
def test_runner_that_keeps_duplicates_is_called_wrong(prepared):
    folder, expected = prepared
    outcome = run_contender(
        find_contenders(["duckdb"])[0],
        folder / "input",
        folder / "out-doubled",
        expected,
        options=("dedup=off",),
    )
    assert outcome.problem.startswith("WRONG: silver_rows: ")
    assert "key_hash" in outcome.problem


def test_figure_that_a_contender_does_not_keep_is_no_difference():
    assert differences({"silver_rows": 5}, {"silver_rows": 5, "rejected": 2}) == []
    assert differences({"rejected": 1}, {"silver_rows": 5, "rejected": 2})


def test_contender_is_unknown_names_the_valid_ones():
    with pytest.raises(ValueError, match=r"no contender \['spork'\]; there are headrace, .*spark"):
        find_contenders(["spork"])


def test_contender_without_its_environment_is_named_absent_with_what_to_do():
    absent = Contender("x", "X", "run_x", ("no-such-package",), environment="no-such-environment")
    row = build_rows([absent], [])[0]
    assert not row.counts
    assert "not installed: no-such-package" in row.as_json()["absent"]


def test_ratios_are_to_the_run_of_headrace_before_and_their_medians():
    ours = find_contenders(["headrace"])[0]
    other = Contender("x", "X", "run_x", ("pytest",))
    assert other.python.samefile(sys.executable)
    pairs = [
        Pair(_outcome("x", wall=2, cpu=3), _outcome("headrace", wall=1, cpu=1)),
        Pair(_outcome("x", wall=4, cpu=8), _outcome("headrace", wall=4, cpu=4)),
        Pair(_outcome("x", wall=9, cpu=9), _outcome("headrace", wall=1, cpu=1)),
    ]
    row, rival = build_rows([ours, other], pairs)
    assert (row.cpu_ratio, row.rate_ratio) == (1, 1)
    assert row.cpu_seconds_per_million == 1
    assert (rival.cpu_ratio, rival.rate_ratio) == (3, 2)
    assert rival.cpu_seconds_per_million == 8


def test_one_wrong_round_takes_a_contender_out():
    ours = find_contenders(["headrace"])[0]
    right, wrong = _outcome("headrace", wall=1, cpu=1), _outcome("headrace", wall=1, cpu=1)
    wrong.problem = "WRONG: rejected: 1, expected 2"
    row = build_rows([ours], [Pair(right, right), Pair(wrong, wrong)])[0]
    assert row.as_json()["problem"] == "WRONG: rejected: 1, expected 2"
    assert "cpu_ratio" not in row.as_json()


def test_every_contender_says_what_it_leaves_out():
    for one in CONTENDERS:
        assert one.leaves_out == "nothing" or one.lacks or one.bronze is None, one.name


def _outcome(name, *, wall, cpu):
    return Outcome(name, 1_000_000, wall_seconds=wall, cpu_seconds=cpu)
