"""Keep what dbt leaves behind: of every build, and of the published one under a fixed name.

Slim CI compares with `dbt-artifacts/<target>/manifest.json`; `headrace docs` shows
`static_index.html`. Not here: making them (dbt).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stream.lake.layout import DbtArtifactKey
from stream.lake.store import Store

KEPT = ("run_results.json", "manifest.json")
"""Of a build; the manifest comes last: it is the sign that the others are there."""
DOCUMENTATION = ("catalog.json", "static_index.html")
"""Of `dbt docs generate`. Its results and manifest would hide those of the build."""


def keep_artifacts(
    store: Store, target: str, build: int, slot: Path | None, names: Sequence[str] = KEPT
) -> list[str]:
    """Upload what dbt left in a slot's folder, in the order of `names`; the paths."""
    kept = []
    for name in names:
        file = slot / "target" / name if slot else None
        if file is not None and file.is_file():
            for key in (DbtArtifactKey(target, name), DbtArtifactKey(target, name, build)):
                store.put_file(key.path, file)
                kept.append(key.path)
    return kept


def read_artifact(store: Store, target: str, name: str, build: int | None = None) -> bytes | None:
    """One artifact; None if that build left none."""
    return store.get(DbtArtifactKey(target, name, build).path)
