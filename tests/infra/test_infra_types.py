"""The types of the program, strictly: mistakes in names and types are found without a preview."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from judges.environment import ROOT, program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # 20 s of CPU

PLANTED = '''"""Faults that a type checker must find."""

import pulumi
import pulumi_aws as aws
from context import Context, Part


class Planted(Part):
    def __init__(self, context: Context) -> None:
        super().__init__(context, "planted")
        aws.kinesis.Stream("a", shard_cuont=1, opts=self.below())  # unknown argument
        aws.kinesis.Stream("b", shard_count="two", opts=self.below())  # wrong type
        aws.s3.BucketVersioning("c", bucket="b", versioning_configuration={"state": "Enabled"})
        self.days: int = context.settings.log_dais  # unknown setting
        self.name: pulumi.Output[str] = aws.s3.Bucket("d").arn.apply(len)  # another output
'''


def check(project):
    """The errors of a project: (line, rule)."""
    done = subprocess.run(
        [program("tools", "basedpyright"), "-p", project, "--outputjson"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [(d["range"]["start"]["line"] + 1, d["message"]) for d in found]


@pytest.mark.parametrize("project", ["infra", "infra/policies"])
def test_the_program_and_the_policy_pack_are_typed_strictly(project):
    assert check(ROOT / project) == []


def test_planted_mistakes_of_type_are_found(tmp_path):
    shutil.copytree(ROOT / "infra", tmp_path / "infra", ignore=shutil.ignore_patterns("snapshots"))
    for name in (".venv", "stream"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "infra/planted.py").write_text(PLANTED)
    config = tmp_path / "infra/pyrightconfig.json"
    config.write_text(config.read_text().replace('"include": ["."]', '"include": ["planted.py"]'))
    lines = {line for line, _ in check(tmp_path / "infra")}
    wanted = {n for n, text in enumerate(PLANTED.splitlines(), 1) if re.search(r"# |state", text)}
    assert lines == wanted
    assert len(wanted) == 5
