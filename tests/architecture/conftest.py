"""The source tree as syntax trees: parsed once, read by every rule."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("stream", "batch", "infra")
SKIPPED = {".git", ".venv", "__pycache__", "build", "dist", ".headrace"}


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file of the product."""

    path: str
    source: str
    tree: ast.Module

    @property
    def imports(self) -> Iterator[tuple[str, int]]:
        """Every imported module with its line, wherever in the file; `from a import b` is a.b."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module, node.lineno
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)

    @property
    def calls(self) -> Iterator[tuple[str, int]]:
        """Every dotted name that is called or read, with its line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                yield ast.unparse(node), node.lineno

    @property
    def import_time(self) -> Iterator[ast.AST]:
        """What runs when the module is imported: everything outside function bodies."""
        waiting: list[ast.AST] = [self.tree]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting.extend([*node.decorator_list, *node.args.defaults])
            elif isinstance(node, ast.Lambda) or (
                isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
            ):
                continue
            else:
                yield node
                waiting.extend(ast.iter_child_nodes(node))


def read_modules() -> list[Module]:
    """Every Python file of the product's packages."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [
        Module(str(path.relative_to(ROOT)), text := path.read_text(), ast.parse(text))
        for path in files
        if not SKIPPED & set(path.parts)
    ]


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    found = read_modules()
    assert found, "no module was found: these tests would pass whatever the code does"
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    """Every text file of the tree that could be committed."""
    found = {}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not _is_skipped(name)]  # .venv is not walked
        for path in (Path(folder, name) for name in names if not _is_skipped(name)):
            if path.is_file():  # no socket, and no link to what is gone
                with suppress(UnicodeDecodeError):
                    found[str(path.relative_to(ROOT))] = path.read_text()
    return dict(sorted(found.items()))


def _is_skipped(part: str) -> bool:
    return part in SKIPPED or part.endswith(("_cache", ".egg-info")) or part == ".hypothesis"
