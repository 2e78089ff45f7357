"""The README's commands, run as they stand, in a copy of the tree's commands and a home of its own.

A ```console block after `<!-- test -->` is run: every line that begins with "$ " must succeed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"<!-- test -->\n```console\n(.*?)```", README, re.S)


def commands_of(block: str) -> list[str]:
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def test_commands_of_a_block_are_its_prompt_lines():
    assert commands_of("$ headrace demo\noutput $ not\n$ ls\n") == ["headrace demo", "ls"]


def test_readme_is_at_most_150_lines_and_starts_with_a_command():
    lines = README.splitlines()
    assert len(lines) <= 150
    if len(lines) > 1:  # the first runnable command is on the first screen
        assert any(line.startswith("$ ") for line in lines[:25])


def test_readme_links_to_files_that_exist():
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", BLOCKS, ids=[b.splitlines()[0][2:40] for b in BLOCKS])
def test_readme_commands_succeed(block: str, tmp_path: Path):
    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        "HEADRACE_HOME": str(tmp_path / "home"),
    }
    try:
        for command in commands_of(block):
            subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, check=True)
    finally:
        subprocess.run(["headrace", "down"], cwd=ROOT, env=environment, check=False)
