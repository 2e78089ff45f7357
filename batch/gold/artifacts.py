"""Keep what dbt leaves behind: of every build, and of the published one under a fixed name.

Slim CI compares with `dbt-artifacts/<target>/manifest.json`; `headrace docs` shows
`static_index.html`. Not here: making them (dbt).
"""

from __future__ import annotations

from pathlib import Path

from stream.lake.layout import DbtArtifactKey
from stream.lake.store import Store

KEPT = ("run_results.json", "catalog.json", "static_index.html", "manifest.json")


def keep_artifacts(store: Store, target: str, build: int, slot: Path | None) -> list[str]:
    """Upload what dbt left in a slot's folder; the paths. The manifest of the build comes last."""
    kept = []
    for name in KEPT:
        file = slot / "target" / name if slot else None
        if file is not None and file.is_file():
            for key in (DbtArtifactKey(target, name), DbtArtifactKey(target, name, build)):
                store.put_file(key.path, file)
                kept.append(key.path)
    return kept


def read_artifact(store: Store, target: str, name: str, build: int | None = None) -> bytes | None:
    """One artifact; None if that build left none."""
    return store.get(DbtArtifactKey(target, name, build).path)
