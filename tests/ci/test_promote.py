"""A digest moves on in order, unchanged, and only the one line changes."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

ROOT = Path(__file__).parents[2]
COMMIT = "a" * 40
REPOSITORY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/headrace"
OLD, NEW = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
CONTENT = """# The stack. Every key is explained in settings.py.
config:
  headrace:image_digest: {digest}
  headrace:settings:
    account_id: "123456789012"
"""


@pytest.fixture(scope="module")
def promote() -> Any:
    spec = importlib.util.spec_from_file_location("promote", ROOT / "deploy" / "promote.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["promote"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    """Three stacks: dev already names the new digest."""
    for stack, digest in (("dev", NEW), ("staging", OLD), ("prod", OLD)):
        (tmp_path / f"Pulumi.{stack}.yaml").write_text(CONTENT.format(digest=digest))
    return tmp_path


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = boto3.client("ecr")
        client.create_repository(repositoryName="headrace", imageTagMutability="IMMUTABLE")
        yield client


def manifest(layer: str = "a", kind: str = "application/vnd.oci.image.manifest.v1+json") -> str:
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2}
    return json.dumps({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {**config, "digest": f"sha256:{layer * 64}"},
        "layers": [],
    })  # fmt: skip


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def push(ecr: Any, tag: str, text: str, digest: str | None = None) -> None:
    """AWS computes the digest; moto believes what it is told."""
    ecr.put_image(
        repositoryName="headrace",
        imageManifest=text,
        imageTag=tag,
        imageDigest=digest or digest_of(text),
    )


def digests(ecr: Any) -> dict[str, str]:
    images = ecr.describe_images(repositoryName="headrace")["imageDetails"]
    return {tag: image["imageDigest"] for image in images for tag in image.get("imageTags", ())}


def test_manifest_gets_a_second_tag_and_keeps_its_digest(promote, ecr, capsys):
    push(ecr, f"{COMMIT}-arm64", manifest())
    assert promote.main(["tag", "staging", COMMIT, REPOSITORY]) == 0
    digest = capsys.readouterr().out.strip()
    assert digest == digest_of(manifest())
    assert digests(ecr) == {f"{COMMIT}-arm64": digest, f"staging-{COMMIT}": digest}


def test_second_run_changes_nothing_and_says_the_same(promote, ecr, capsys):
    push(ecr, f"{COMMIT}-arm64", manifest())
    for _ in range(2):
        assert promote.main(["tag", "dev", COMMIT, REPOSITORY]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == second
    assert set(digests(ecr)) == {f"{COMMIT}-arm64", f"dev-{COMMIT}"}


def test_tag_that_names_another_image_is_refused(promote, ecr, capsys):
    push(ecr, f"{COMMIT}-arm64", manifest("a"))
    push(ecr, f"dev-{COMMIT}", manifest("b"))
    assert promote.main(["tag", "dev", COMMIT, REPOSITORY]) == 1
    said = capsys.readouterr().err
    assert f"names {{'{digest_of(manifest('b'))}'}} already" in said
    assert digests(ecr)[f"dev-{COMMIT}"] == digest_of(manifest("b"))


def test_commit_that_was_never_built_is_refused(promote, ecr, capsys):
    assert promote.main(["tag", "dev", COMMIT, REPOSITORY]) == 1
    assert "does not exist: was the commit built on main?" in capsys.readouterr().err


def test_index_is_refused_because_lambda_takes_none(promote, ecr, capsys):
    push(ecr, f"{COMMIT}-arm64", manifest(kind="application/vnd.oci.image.index.v1+json"))
    assert promote.main(["tag", "dev", COMMIT, REPOSITORY]) == 1
    assert "image.index.v1+json, expected a plain manifest" in capsys.readouterr().err


def test_manifest_that_is_not_what_its_digest_says_is_refused(promote, ecr, capsys):
    push(ecr, f"{COMMIT}-arm64", manifest("a"), digest_of(manifest("b")))
    assert promote.main(["tag", "dev", COMMIT, REPOSITORY]) == 1
    assert f"hashes to {digest_of(manifest('a'))}" in capsys.readouterr().err


def test_only_the_digest_changes_in_the_file(promote, infra):
    promote.write(infra, "staging", NEW)
    assert (infra / "Pulumi.staging.yaml").read_text() == CONTENT.format(digest=NEW)
    assert (infra / "Pulumi.prod.yaml").read_text() == CONTENT.format(digest=OLD)


def test_digest_goes_through_every_stack_in_order(promote, infra):
    with pytest.raises(promote.PromotionRefusedError, match=f"which is {OLD}, not {NEW}"):
        promote.write(infra, "prod", NEW)
    promote.write(infra, "staging", NEW)
    promote.write(infra, "prod", NEW)
    third = f"sha256:{'2' * 64}"
    promote.write(infra, "dev", third)
    assert third in (infra / "Pulumi.dev.yaml").read_text()


@pytest.mark.parametrize(
    ("content", "found"),
    [("config: {}\n", "0 lines"), (CONTENT.format(digest=OLD) * 2, "2 lines")],
)
def test_file_without_exactly_one_digest_is_refused(promote, infra, content, found):
    (infra / "Pulumi.dev.yaml").write_text(content)
    with pytest.raises(promote.PromotionRefusedError, match=found):
        promote.write(infra, "dev", NEW)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "production", COMMIT], "no stack 'production'"),
        (["check", "dev", "a" * 12], "expected all 40 digits"),
        (["check", "dev", "$(id)"], "expected all 40 digits"),
        (["write", "dev", "latest"], "expected sha256: and 64 digits"),
        (["write", "../../etc", NEW], "no stack"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_done(promote, capsys, arguments, message):
    assert promote.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_line_of_the_real_stacks_is_found(promote):
    stacks = sorted((ROOT / "infra").glob("Pulumi.*.yaml"))
    assert {path.name.split(".")[1] for path in stacks} == set(promote.BEFORE)
    for path in stacks:
        assert promote.LINE.search(path.read_text())["digest"].startswith("sha256:")
