"""The rules that no review must have to remember: who may import, read or call what.

Each rule names what is forbidden and the few files that may. A file that no longer needs its
permission is reported, too, so that the lists do not rot.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

import pytest

AWS_SDK = r"(boto3|botocore|aiobotocore|obstore|s3fs|aioboto3)(\.|$)"
AWS_FOLDERS = (
    *("stream/sources/kinesis", "stream/producers/", "stream/lake/", "stream/local/"),
    "batch/aws/",
    "infra/judges/",  # the recorded roles at work, against moto
    "batch/gold/dbt_main.py",  # inside dbt's process: dbt-athena's sessions share one reader
)

IMPORT_RULES = {
    "bytewax": (r"bytewax(\.|$)", ("stream/engine.py",)),
    "AWS SDKs": (AWS_SDK, AWS_FOLDERS),
    "pyiceberg": (r"pyiceberg(\.|$)", ("stream/lake/catalog",)),
    "prefect": (r"prefect(_aws)?(\.|$)", ("batch/flows/",)),
    "dbt": (r"dbt(_common)?(\.|$)", ("batch/gold/silver_plugin.py", "batch/gold/dbt_main.py")),
    # Ids as pure functions of names: of an event that Prefect keeps once, of a resource's stand-in.
    "uuid": (r"uuid(\.|$)", ("batch/flows/report.py", "infra/synth.py")),
    "secrets": (r"secrets(\.|$)", ()),
    # Simulated data and the jitter of a back-off; never a byte or a name in the lake.
    "random": (
        r"random(\.|$)",
        ("stream/producers/", "stream/sources/fetcher.py", "stream/lake/ledger.py"),
    ),
    "time": (r"time(\.|$)", ("stream/clock.py",)),
    "the tests": (r"tests(\.|$)", ()),
    "batch": (r"batch(\.|$)", ("batch/", "infra/")),
}

CALL_RULES = {
    "wall clock": (
        r"^(time\.(time|time_ns|monotonic|sleep|perf_counter)"
        r"|datetime(\.datetime)?\.(now|utcnow|today)|date\.today)$",
        ("stream/clock.py",),
    ),
    "environment": (
        r"^os\.(environ|getenv|putenv)$",
        (
            "stream/settings.py",
            "stream/allocators.py",  # before pyarrow, which settings import, is imported
            "infra/judges/enforced.py",  # stands in for an AWS account
            "batch/aws/lineage.py",  # a Lambda function: it starts fast, without pydantic
        ),
    ),
    "host name": (r"^(socket\.(gethostname|getfqdn)|platform\.node|os\.uname)$", ()),
    "random numbers": (
        r"^(np|numpy)\.random\.",
        ("stream/producers/",),
    ),
}

# Reads or starts something when the module is imported.
IO_CALL = re.compile(
    r"(^|\.)(open|read_text|read_bytes|write_text|write_bytes|mkdir|client|resource|connect|"
    r"Popen|run|check_output|urlopen|get_env|load_settings|Settings|boto3\.\w+|Session|touch)$"
)


@pytest.mark.parametrize("rule", IMPORT_RULES)
def test_import_outside_its_place_is_refused(modules, rule):
    pattern, allowed = IMPORT_RULES[rule]
    found = {
        module.path: line
        for module in modules
        for name, line in module.imports
        if re.match(pattern, name)
    }
    _check(rule, found, allowed)


@pytest.mark.parametrize("rule", CALL_RULES)
def test_name_outside_its_place_is_refused(modules, rule):
    pattern, allowed = CALL_RULES[rule]
    found = {
        module.path: line
        for module in modules
        for name, line in module.calls
        if re.match(pattern, name)
    }
    _check(rule, found, allowed)


def test_module_import_does_no_io(modules):
    found = [
        f"{module.path}:{node.lineno}: {ast.unparse(node.func)}"
        for module in modules
        for node in module.import_time
        if isinstance(node, ast.Call) and IO_CALL.search(ast.unparse(node.func))
    ]
    assert not found, "these run when the module is imported:\n" + "\n".join(found)


def test_broad_except_without_reraise_is_refused(modules):
    found = [
        f"{module.path}:{node.lineno}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
        and _is_broad(node)
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        # The last frame of the command line shows the error and turns it into an exit code.
        and module.path != "stream/cli/failure.py"
        and not _keeps_the_error(node)
    ]
    assert not found, "errors vanish here:\n" + "\n".join(found)


def test_object_key_is_built_in_the_layout_alone(modules):
    pattern = re.compile(r"^(bronze/source=|silver/entity=|ledger/|quarantine/|closed/)")
    found = [
        f"{module.path}:{node.lineno}: {node.value[:40]!r}"
        for module in modules
        if module.path != "stream/lake/layout.py"
        for node in _string_literals(module.tree)
        if pattern.match(node.value)
    ]
    assert not found, "build these keys with stream.lake.layout:\n" + "\n".join(found)


def test_rule_recognises_what_it_forbids():
    """The patterns themselves: a rule that matches nothing would always pass."""
    clock, _ = CALL_RULES["wall clock"]
    assert re.match(clock, "datetime.now")
    assert re.match(clock, "time.time_ns")
    assert not re.match(clock, "clock.now_ns")
    assert re.match(AWS_SDK, "boto3")
    assert re.match(AWS_SDK, "botocore.exceptions")
    assert not re.match(AWS_SDK, "boto3_stubs")
    assert IO_CALL.search("boto3.client")
    assert IO_CALL.search("Path('x').read_text")
    assert not IO_CALL.search("re.compile")


def _check(rule: str, found: dict[str, int], allowed: Iterable[str]) -> None:
    strays = [f"{p}:{n}" for p, n in found.items() if not p.startswith(tuple(allowed))]
    assert not strays, f"{rule} may only be used in {list(allowed)}, found in:\n" + "\n".join(
        strays
    )
    unused = [a for a in allowed if not any(path.startswith(a) for path in found)]
    assert not [a for a in unused if a.startswith("stream/")] or rule in {"AWS SDKs", "random"}, (
        f"{rule}: {unused} no longer need the permission"
    )


def _is_broad(node: ast.ExceptHandler) -> bool:
    return node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}


def _keeps_the_error(node: ast.ExceptHandler) -> bool:
    """A thread cannot raise to its owner: keeping the error in an attribute hands it over."""
    return any(
        isinstance(inner, ast.Assign)
        and isinstance(inner.targets[0], ast.Attribute)
        and node.name is not None
        and node.name in {n.id for n in ast.walk(inner.value) if isinstance(n, ast.Name)}
        for inner in ast.walk(node)
    )


def _string_literals(tree: ast.AST) -> Iterable[ast.Constant]:
    return (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is str
    )
