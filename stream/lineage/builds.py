"""Published builds of Gold: which commits they include, from which snapshots, of which models.

A build's record names the ledger entry per feed that it includes; dbt's manifest, kept beside it,
says which models come from which table of Silver; the slot's folder keeps the pinned snapshots
while it is on this machine. Not here: rows of Gold (`gold_rows`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from stream.lake.entries import NUMBER
from stream.lake.gold import GoldBuild, build_numbers, read_build, slot_file
from stream.lake.layout import DbtArtifactKey
from stream.lineage.scope import Scope

TARGETS = ("local", "athena")


@dataclass(frozen=True, slots=True)
class Model:
    """A model of dbt: its table, and the tables of Silver and the ledger that it comes from.

    `sources`: "silver.trades", ...; `parents`: names of the models and seeds that it reads; `keys`:
    the columns that tests say are unique together.
    """

    name: str
    kind: str
    layer: str
    schema: str
    sources: frozenset[str]
    parents: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...] = ()


@dataclass
class Gold:
    """The published build of a target. `file`: its DuckDB file; None if it is not here."""

    target: str
    build: GoldBuild
    file: Path | None
    models: Mapping[str, Model] = field(default_factory=dict)
    pins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """As people say it."""
        return f"{self.target} build {self.build.number}"

    def marts_of(self, source: str) -> list[Model]:
        """The models that readers ask for and that come from a source."""
        found = (m for m in self.models.values() if source in m.sources and m.layer == "marts")
        return sorted(found, key=lambda model: model.name)

    def path_to(self, model: str, source: str) -> list[str]:
        """The shortest way from a model to a source: the model first, the source last."""
        ways, seen = [[model]], {model}
        while ways:
            way = ways.pop(0)
            found = self.models.get(way[-1])
            if found is None:
                continue
            for parent in found.parents:
                if parent == source:
                    return [*way, source]
                if parent not in seen:
                    seen.add(parent)
                    ways.append([*way, parent])
        return [model]


def read_gold(scope: Scope) -> list[Gold]:
    """What is published, per target; empty before the first build."""
    found = []
    for target in TARGETS:
        numbers = build_numbers(scope.store, target)
        build = read_build(scope.store, target, numbers[-1]) if numbers else None
        if build is None:
            continue
        file = slot_file(scope.settings.home, build.slot)
        is_here = target == "local" and file.is_file()
        manifest = DbtArtifactKey(target, "manifest.json", build.number).path
        models = read_models(scope.store.get(manifest))
        pins = _read_pins(file.parent / "pins.json") if is_here else {}
        found.append(Gold(target, build, file if is_here else None, models, pins))
    return found


def first_build_with(scope: Scope, target: str, feed: str, number: int) -> GoldBuild | None:
    """The earliest kept build that includes a commit of a feed: by halving, a build a step."""
    numbers = build_numbers(scope.store, target)
    low, high, found = 0, len(numbers), None
    while low < high:
        middle = (low + high) // 2
        build = read_build(scope.store, target, numbers[middle])
        if build is not None and build.numbers.get(feed, 0) >= number:
            found, high = build, middle
        else:
            low = middle + 1
    return found


def pinned_snapshot(scope: Scope, gold: Gold, feed: str) -> tuple[int, int | None]:
    """The ledger number of a feed that a build includes, and the table's snapshot that it read;
    None if that is no longer retained.
    """
    number = gold.build.numbers.get(feed, 0)
    table = scope.table(feed)
    pin = gold.pins.get(feed, {})
    snapshot = pin.get("snapshot_id") if pin.get("number") == number else None
    if snapshot is not None and table.has_snapshot(snapshot):
        return number, snapshot
    return number, table.find_snapshot(NUMBER, str(number))


def read_models(manifest: bytes | None) -> dict[str, Model]:
    """The models and seeds of dbt's manifest, by name; none without one."""
    if manifest is None:
        return {}
    raw = orjson.loads(manifest)
    nodes = {
        unique: node
        for unique, node in raw["nodes"].items()
        if node["resource_type"] in ("model", "seed")
    }
    sources = {
        unique: f"{source['source_name']}.{source['name']}"
        for unique, source in raw["sources"].items()
    }
    parents = {u: list(node["depends_on"].get("nodes", ())) for u, node in nodes.items()}
    keys = _keys(raw["nodes"])
    reached: dict[str, frozenset[str]] = {}

    def reach(unique: str) -> frozenset[str]:
        if unique in sources:
            return frozenset([sources[unique]])
        if unique not in reached:
            reached[unique] = frozenset()
            reached[unique] = frozenset().union(*(reach(p) for p in parents.get(unique, ())))
        return reached[unique]

    def name(unique: str) -> str:
        return sources.get(unique) or (nodes[unique]["alias"] if unique in nodes else unique)

    return {
        node["alias"]: Model(
            name=node["alias"],
            kind=node["resource_type"],
            layer=_layer(node["fqn"]),
            schema=node["schema"],
            sources=reach(unique),
            parents=tuple(name(parent) for parent in parents[unique]),
            keys=tuple(sorted(keys.get(unique, ()))),
        )
        for unique, node in nodes.items()
    }


def _keys(nodes: Mapping[str, Any]) -> dict[str, list[tuple[str, ...]]]:
    """Model -> each choice of columns whose values dbt tests to be unique together."""
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for node in nodes.values():
        test = node.get("test_metadata") or {}
        arguments = test.get("kwargs") or {}
        if test.get("name") == "unique_combination_of_columns":
            found[node["attached_node"]].append(tuple(arguments["combination_of_columns"]))
        elif test.get("name") == "unique":
            found[node["attached_node"]].append((arguments["column_name"],))
    return found


def _layer(fqn: Sequence[str]) -> str:
    return fqn[1] if len(fqn) > 2 else ""


def _read_pins(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = orjson.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}  # the build's record says the numbers, too
    return found
