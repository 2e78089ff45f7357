"""Memory is handed out as said, from a process's first import on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

POOL = "import pyarrow; print(pyarrow.default_memory_pool().backend_name)"


def ask(code: str, **variables: str) -> str:
    env = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.mark.parametrize(
    ("variables", "pool"), [({}, "system"), ({"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}, "mimalloc")]
)
def test_process_uses_one_allocator_unless_somebody_chose_another(variables, pool):
    code = f"from stream.allocators import keep_memory_small; keep_memory_small(); {POOL}"
    assert ask(code, **variables) == pool


@pytest.mark.parametrize("cli", ["batch.cli", "stream.cli"])
def test_command_line_is_told_before_pyarrow_is_there(cli):
    code = f"import sys, {cli}; print({cli}.keep_memory_small.__name__, 'pyarrow' in sys.modules)"
    assert ask(code) == "keep_memory_small False"
