"""How files look and where they lie: checked, so that nobody has to point it out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib

import pytest

TOP_LEVEL = {
    *("stream", "batch", "infra", "dbt", "deploy", "tests"),
    *("pyproject.toml", "docker-compose.yml", "README.md", "Makefile"),
    *("LICENSE", "CHANGELOG.md", "SECURITY.md"),
}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "lib", "tools"}
EMPTY_WORDS = re.compile(r"(Manager|Helper|Util|Utils|Base)$|^Base[A-Z]")
MAX_LINES = 500


def test_module_opens_with_a_docstring(modules):
    missing = [m.path for m in modules if not ast.get_docstring(m.tree)]
    assert not missing, f"say purpose, guarantees and what is not here: {missing}"


def test_module_postpones_annotations(modules):
    missing = [
        m.path
        for m in modules
        if _has_code(m.tree) and "from __future__ import annotations" not in m.source
    ]
    assert not missing


def test_file_is_at_most_500_lines(modules):
    long = {m.path: n for m in modules if (n := m.source.count("\n")) > MAX_LINES}
    assert not long, f"find the seam and split: {long}"


def test_test_file_is_at_most_500_lines(root):
    long = [p for p in (root / "tests").rglob("*.py") if p.read_text().count("\n") > MAX_LINES]
    assert not long


def test_name_of_a_file_says_what_lives_there(texts):
    # Other people's tools, each at one version, and nothing of ours but the script that runs them.
    ours = [p for p in texts if not p.startswith("deploy/tools/")]
    drawers = [p for p in ours if {part.split(".")[0] for part in p.split("/")} & DRAWERS]
    assert not drawers


def test_name_of_a_class_says_what_it_is(modules):
    found = [
        f"{m.path}: {node.name}"
        for m in modules
        for node in ast.walk(m.tree)
        if isinstance(node, ast.ClassDef) and EMPTY_WORDS.search(node.name)
    ]
    assert not found


def test_error_class_ends_in_error(modules):
    found = [
        f"{m.path}: {node.name}"
        for m in modules
        for node in ast.walk(m.tree)
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith("Error") for base in node.bases)
        and not node.name.endswith("Error")
        and node.name != "RecordRejected"  # the verdict on a record, named as its code says
    ]
    assert not found


def test_public_function_of_the_platform_has_a_docstring(modules):
    missing = [
        f"{m.path}: {node.name}"
        for m in modules
        for node in m.tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not missing


def test_top_level_holds_only_what_the_design_names(root):
    tracked = _git_files(root)
    strays = {path.split("/")[0] for path in tracked} - TOP_LEVEL
    assert not {name for name in strays if not name.startswith(".")}


def test_every_python_file_under_tests_is_collected(root):
    strays = [
        str(path.relative_to(root))
        for path in (root / "tests").rglob("*.py")
        if not re.fullmatch(r"test_\w+\.py|conftest\.py", path.name)
        and not {"benchmarks", "fixtures"} & set(path.relative_to(root).parts)
        and not _is_imported(root, path.stem)
    ]
    assert not strays, f"pytest never runs these: {strays}"


def test_every_test_file_defines_a_test(root):
    empty = [
        str(path.relative_to(root))
        for path in (root / "tests").rglob("test_*.py")
        if not re.search(r"^\s*(async )?def test_|RuleBasedStateMachine", path.read_text(), re.M)
    ]
    assert not empty


def test_name_of_a_test_file_is_unique(root):
    names = [path.name for path in (root / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_tests_folder_has_no_package(root):
    assert not list((root / "tests").rglob("__init__.py"))


def test_dbt_folder_is_no_package(root):
    """A root folder `dbt` with __init__.py would hide the installed dbt."""
    assert not list((root / "dbt").rglob("__init__.py"))
    assert not (root / "dbt" / "tests").exists(), "dbt/tests hides dbt.tests: name it data_tests"


def test_committed_file_names_no_machine_and_no_registry(texts):
    # Written in parts, so that this file does not name them either.
    machine = ["/wor" + "k/", "../sha" + "red", "/tm" + "p/w/", "/roo" + "t/", "/ho" + "me/"]
    registry = re.compile(
        r"(pypi\.org/sim" + r"ple|files\.pythonho" + r"sted|extra-index" + r"-url|--index" + r"-url"
        r"|url *[=:] *\"http[^\"]*\.(whl|tar\.gz))"
    )
    found = [
        f"{path}: {line.strip()[:80]}"
        for path, text in texts.items()
        for line in text.splitlines()
        if any(place in line for place in machine) or registry.search(line)
    ]
    assert not found, "\n".join(found)


def test_lock_holds_hashes_and_no_address(root):
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (root / "deploy" / name).read_text()
        assert "://" not in text
        pins = re.findall(r"^[\w.-]+(?:\[[\w,]+\])?==", text, re.M)
        assert len(pins) > 40
        assert text.count("--hash=sha256:") >= len(pins)


def test_lock_holds_every_dependency_as_the_project_asks(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    wanted = [re.split(r"[\[<>=]", d)[0] for d in project["project"]["dependencies"]]
    locked = re.findall(r"^([\w.-]+)", (root / "deploy/requirements.lock").read_text(), re.M)
    assert not set(wanted) - set(locked), "run `make lock`"


def test_uv_lock_is_not_committed(root):
    assert "uv.lock" not in _git_files(root)


@pytest.mark.parametrize("name", ["pyarrow", "numpy", "boto3", "bytewax", "duckdb", "pydantic"])
def test_command_line_imports_no_heavy_library(name):
    code = f"import sys, stream.cli; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _has_code(tree: ast.Module) -> bool:
    """Whether anything is defined: a package that only re-exports needs no annotations."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.AnnAssign
    return any(isinstance(node, kinds) for node in ast.walk(tree))


def _is_imported(root, stem: str) -> bool:
    """Whether some test imports this file by its name (a child process, a shared fixture)."""
    files = (root / "tests").rglob("*.py")
    return any(re.search(rf"\b{stem}\b", f.read_text()) for f in files if f.stem != stem)


def _git_files(root) -> list[str]:
    answer = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False
    )
    if answer.returncode:
        pytest.skip("not a git working tree")  # an unpacked archive has no list to check
    return answer.stdout.split()
