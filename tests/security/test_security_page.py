"""SECURITY.md keeps its word: every test that it names exists, and every bound is the code's."""

from __future__ import annotations

import ast
import re

import pytest

from batch.extracts.folder import MAX_WHOLE_BYTES
from batch.extracts.http import CallRule
from stream.decode.message import MAX_DEPTH
from stream.producers.news import MAX_ANSWER_BYTES, PollRule
from stream.producers.rss import MAX_ITEMS
from stream.producers.venue import MAX_FRAME_BYTES
from stream.settings import Settings
from stream.sources.aggregation import MAX_GROWTH, MAX_KEY_CHARACTERS
from stream.sources.extract_formats import FREE_BYTES, MAX_PART_BYTES, MAX_RATIO


@pytest.fixture(scope="module")
def page(request):
    return (request.path.parents[2] / "SECURITY.md").read_text()


@pytest.fixture(scope="module")
def promises(page):
    """The rows of the table of promises: promise, proof, tests."""
    section = page.partition("## Promises")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def missing(root, name):
    """Why a named test does not exist; empty if it does."""
    path, _, function = name.partition("::")
    file = root / path
    if not re.fullmatch(r"tests/[\w/]+/test_\w+\.py", path) or not file.is_file():
        return f"{path}: no such file"
    names = {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return "" if not function or function in names else f"{name}: no such test"


def test_every_promise_names_tests_that_exist(root, promises):
    assert len(promises) > 25
    faults = []
    for promise, proof, tests in promises:
        named = re.findall(r"`([^`]+)`", tests)
        faults += [f"{promise}: no proof or no test"] if not proof or not named else []
        faults += [fault for name in named if (fault := missing(root, name))]
    assert not faults


def test_every_security_test_file_proves_a_promise(root, promises):
    named = " ".join(tests for _, _, tests in promises)
    files = {path.name for path in (root / "tests" / "security").glob("test_*.py")}
    assert not {f for f in files if f"tests/security/{f}" not in named} - {"test_security_page.py"}


@pytest.mark.parametrize(
    "name",
    [
        *("tests/security/test_none.py", "tests/security/conftest.py", "tests/unit/..."),
        "tests/security/test_bombs.py::test_that_nobody_wrote",
    ],
)
def test_test_that_does_not_exist_would_be_seen(root, name):
    assert missing(root, name)


def test_bounds_of_the_page_are_those_of_the_code(page):
    rule, mib = CallRule(), 1 << 20
    section = page.partition("## Bounds")[2].partition("\n## ")[0]
    for bound in (
        f"{rule.max_answer_bytes // mib} MiB and {rule.max_answer_values:,} values",
        f"within {rule.answer_seconds:.0f} s",
        f"{MAX_ANSWER_BYTES // mib} MiB, {PollRule().answer_seconds:.0f} s; RSS {MAX_ITEMS:,} ",
        f"{MAX_FRAME_BYTES // mib} MiB |",
        f"{MAX_DEPTH} levels",
        f"{MAX_KEY_CHARACTERS} characters, together {MAX_GROWTH} times",
        f"{MAX_WHOLE_BYTES // mib} MiB |",
        f"{MAX_PART_BYTES // mib // 1024} GiB unpacked, and above {FREE_BYTES // mib} MiB "
        f"{MAX_RATIO} times packed",
    ):
        assert bound in section, bound


def test_settings_of_the_page_exist(page):
    named = re.findall(r"`HEADRACE_([A-Z_]+)`", page)
    assert len(named) >= 3
    assert not {name.lower() for name in named} - set(Settings.model_fields)
