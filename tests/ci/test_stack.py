"""deploy/stack calls Pulumi with the policies, and refuses what is not a stack.

Pulumi's program cannot be had here: a stand-in writes down how it was called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Call the script in a tree with the stack dev and a `pulumi` that repeats its arguments."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "Pulumi.dev.yaml").touch()
    script = shutil.copy(ROOT / "deploy" / "stack", tmp_path / "deploy")
    pulumi = tmp_path / "bin" / "pulumi"
    pulumi.parent.mkdir()
    pulumi.write_text('#!/usr/bin/env bash\necho "$@"\n')
    pulumi.chmod(0o755)

    def call(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{pulumi.parent}:{os.environ['PATH']}",
            "PULUMI_BACKEND_URL": "s3://x",
        }
        command = [script, *arguments]
        return subprocess.run(
            command, env=environment | changed, capture_output=True, text=True, check=False
        )

    return call


@pytest.mark.parametrize("verb", ["preview", "up"])
def test_policies_judge_every_preview_and_every_update(run, tmp_path, verb):
    answer = run(verb, "dev")
    assert answer.returncode == 0, answer.stderr
    assert f"--cwd {tmp_path}/infra --non-interactive {verb} " in answer.stdout
    assert f"--policy-pack {tmp_path}/infra/policies" in answer.stdout
    assert answer.stdout.endswith("--stack dev\n")
    assert ("--yes" in answer.stdout) is (verb == "up")


def test_outputs_are_json_without_secrets(run):
    answer = run("outputs", "dev")
    assert "stack output --json" in answer.stdout
    assert "--show-secrets" not in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["up"], {}, "two arguments, please"),
        (["up", "production"], {}, "no stack 'production': infra/Pulumi.production.yaml"),
        (["destroy", "dev"], {}, "'destroy': expected preview, up or outputs"),
        (["up", "dev"], {"PULUMI_BACKEND_URL": ""}, "PULUMI_BACKEND_URL is not set"),
        (["up", "dev"], {"PATH": "/usr/bin:/bin"}, "pulumi is not on PATH"),
    ],
)
def test_wrong_use_is_refused_with_what_is_wrong(run, arguments, environment, message):
    answer = run(*arguments, **environment)
    assert (answer.returncode, message in answer.stderr) == (2, True), answer.stderr
