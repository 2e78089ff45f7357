"""Move an image on by digest: `python deploy/promote.py check|tag|write …`, as promote.yml does.

    check STACK COMMIT               the arguments make sense
    tag STACK COMMIT REPOSITORY      a second tag for the manifest in ECR; prints its digest
    write STACK DIGEST               the line of infra/Pulumi.STACK.yaml

What moves is the arm64 manifest, never the index: Lambda takes no index, ECS takes both. A digest
goes to staging after dev and to prod after staging; a rollback is a revert of the line's commit.
Exit code 0 ok, 1 refused. Only `tag` needs boto3 and AWS.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

INFRA = Path(__file__).parents[1] / "infra"
BEFORE = {"dev": None, "staging": "dev", "prod": "staging"}
LINE = re.compile(r"^(?P<start>\s+headrace:image_digest:\s*)(?P<digest>\S+)$", re.MULTILINE)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class PromotionRefusedError(Exception):
    """The image may not or cannot move on; the message says why and what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, names in {
        "check": ("commit",),
        "tag": ("commit", "repository"),
        "write": ("digest",),
    }.items():
        sub = verbs.add_parser(verb)
        for name in ("stack", *names):
            sub.add_argument(name)
    options = parser.parse_args(arguments)
    try:
        check_stack(options.stack)
        if options.verb == "write":
            write(INFRA, options.stack, options.digest)
            return 0
        check_commit(options.commit)
        if options.verb == "tag":
            print(tag(options.stack, options.commit, options.repository))
    except PromotionRefusedError as error:
        print(f"promote: {error}", file=sys.stderr)
        return 1
    return 0


def check_stack(stack: str) -> None:
    """Raises: PromotionRefusedError."""
    if stack not in BEFORE:
        raise PromotionRefusedError(f"no stack {stack!r}: expected {', '.join(BEFORE)}")


def check_commit(commit: str) -> None:
    """Raises: PromotionRefusedError."""
    if not COMMIT.fullmatch(commit):
        raise PromotionRefusedError(f"commit {commit!r}: expected all 40 digits (git rev-parse)")


def tag(stack: str, commit: str, repository: str) -> str:
    """Give a commit's arm64 manifest the tag `<stack>-<commit>`; the same again changes nothing.

    Args: repository: the whole address, e.g. 123456789012.dkr.ecr.eu-west-1.amazonaws.com/headrace.
    Returns: the manifest's digest. Raises: PromotionRefusedError.
    """
    import boto3  # noqa: PLC0415 - `write` runs without it

    name = repository.partition("/")[2]
    ecr = boto3.client("ecr")
    manifest, digest = _read_manifest(ecr, name, f"{commit}-arm64")
    target = f"{stack}-{commit}"
    # Asked first: to put a tag that exists is an error of ECR, even for the same image.
    if not (there := _digests_of(ecr, name, target)):
        ecr.put_image(
            repositoryName=name,
            imageManifest=manifest,
            imageManifestMediaType=json.loads(manifest)["mediaType"],
            imageTag=target,
            imageDigest=digest,
        )
    elif there != {digest}:
        raise PromotionRefusedError(
            f"{name}:{target} names {there} already, not {digest}, and tags are immutable. The "
            "commit was built twice, which images.yml refuses: find out how before it runs"
        )
    return digest


def _digests_of(ecr: Any, name: str, image_tag: str) -> set[str]:
    answer = ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": image_tag}])
    return {image["imageId"]["imageDigest"] for image in answer["images"]}


def _read_manifest(ecr: Any, name: str, image_tag: str) -> tuple[str, str]:
    """The exact bytes of a manifest and their digest, compared with what ECR calls it."""
    answer = ecr.batch_get_image(
        repositoryName=name, imageIds=[{"imageTag": image_tag}], acceptedMediaTypes=[*MANIFESTS]
    )
    if not answer["images"]:
        raise PromotionRefusedError(
            f"{name}:{image_tag} does not exist: was the commit built on main? See images.yml; "
            f"ECR said {[failure['failureCode'] for failure in answer['failures']]}"
        )
    manifest, digest = answer["images"][0]["imageManifest"], answer["images"][0]["imageId"]
    kind = json.loads(manifest).get("mediaType")
    if kind not in MANIFESTS:
        raise PromotionRefusedError(f"{name}:{image_tag} is {kind}, expected a plain manifest")
    found = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    if found != digest["imageDigest"]:
        raise PromotionRefusedError(
            f"{name}:{image_tag}: {digest['imageDigest']} hashes to {found}"
        )
    return manifest, found


def write(infra: Path, stack: str, digest: str) -> None:
    """Put the digest into a stack's file, leaving every other byte alone.

    Raises: PromotionRefusedError: no digest, no such line, or the stack before names another one.
    """
    if not DIGEST.fullmatch(digest):
        raise PromotionRefusedError(f"digest {digest!r}: expected sha256: and 64 digits")
    before = BEFORE[stack]
    if before and (runs := _find_line(infra, before)[1]["digest"]) != digest:
        raise PromotionRefusedError(
            f"{stack} takes what {before} names, which is {runs}, not {digest}. Promote it to "
            f"{before} first. To go back, revert the commit that changed Pulumi.{stack}.yaml"
        )
    text, line = _find_line(infra, stack)
    start, end = line.span("digest")
    (infra / f"Pulumi.{stack}.yaml").write_text(text[:start] + digest + text[end:])


def _find_line(infra: Path, stack: str) -> tuple[str, re.Match[str]]:
    path = infra / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        raise PromotionRefusedError(f"{path} does not exist")
    text = path.read_text()
    lines = list(LINE.finditer(text))
    if len(lines) != 1:
        raise PromotionRefusedError(f"{path}: {len(lines)} lines headrace:image_digest, expected 1")
    return text, lines[0]


if __name__ == "__main__":
    sys.exit(main())
