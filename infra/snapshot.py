"""The golden files of the stacks: what a review sees of a change, without an AWS account.

    python infra/snapshot.py            compare snapshots/ and diagram.md with the program
    python infra/snapshot.py --write    write them anew

`snapshots/<stack>.yaml` holds, by component and name, each resource's type and the inputs that
somebody decided. Left out is what follows from something else: the settings that every resource
gets, and a reference's value, for which the name of what it refers to stands.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import synth
from diagram import draw
from program import deploy
from synth import Graph, Resource

FOLDER = Path(__file__).parent / "snapshots"
DIAGRAM = Path(__file__).parent / "diagram.md"
HOW = "python infra/snapshot.py --write"
HEAD = f"# Written by `{HOW}`: what this stack declares. Read the difference, not the file.\n"
SHORT, ENDLESS = 80, 10_000
PROSE = ("alarmDescription", "description")
"""Inputs that explain; a changed word is no changed infrastructure."""
GENERATED = {"$schema", "widgets", "fields"}
"""Keys of documents that are made from the contracts and the catalogue of metrics: a schema, a
dashboard. Their own tests read them; here a digest says that they changed."""


def main(arguments: list[str]) -> int:
    """Write the files, or say how they differ; 1 if they do."""
    wanted = dict(files())
    if "--write" in arguments:
        FOLDER.mkdir(exist_ok=True)
        for path, text in wanted.items():
            path.write_text(text)
        return 0
    found = [line for path, text in wanted.items() for line in differences(path, text)]
    sys.stdout.writelines(found)
    return 1 if found else 0


def files() -> Iterator[tuple[Path, str]]:
    """Every generated file and what it should hold."""
    graphs = {stack: synth.synthesise(stack, deploy) for stack in synth.STACKS}
    for stack, graph in graphs.items():
        yield FOLDER / f"{stack}.yaml", render(graph)
    yield DIAGRAM, draw(graphs["prod"])


def differences(path: Path, wanted: str) -> list[str]:
    """How a committed file differs from what it should hold; says how to write it anew."""
    there = path.read_text() if path.exists() else ""
    if there == wanted:
        return []
    lines = difflib.unified_diff(
        there.splitlines(), wanted.splitlines(), f"{path.name} (committed)", "the program", n=1
    )
    return [f"{line}\n" for line in (*lines, f"If that is meant: {HOW}")]


def render(graph: Graph) -> str:
    """The golden text of a stack."""
    names = _references(graph)
    components: dict[str, dict[str, Any]] = {}
    for resource in graph.custom:
        component = components.setdefault(component_of(resource), {})
        component[f"{resource.name} ({short_type(resource.type)})"] = _inputs(resource, names)
    ordered = {name: dict(sorted(components[name].items())) for name in sorted(components)}
    return HEAD + yaml.dump(
        ordered,
        Dumper=_Plain,
        sort_keys=False,
        width=ENDLESS,
        allow_unicode=True,
    )


def component_of(resource: Resource) -> str:
    """The name of the component that a resource belongs to; "stack" if to none."""
    name = resource.parent.rpartition("::")[2]
    return "stack" if "pulumi:pulumi:Stack::" in resource.parent else name


def short_type(token: str) -> str:
    """`aws:s3/bucket:Bucket` is `s3.Bucket`."""
    module, _, name = token.rpartition(":")
    return f"{module.partition(':')[2].partition('/')[0]}.{name}"


def _references(graph: Graph) -> dict[str, str]:
    """Names for computed values: "${s3.Bucket bronze.arn}". Not for one that two resources have:
    the synthesis makes some ARNs of a name alone.
    """
    found: dict[str, set[str]] = {}
    for resource in graph.custom:
        for key, value in resource.outputs.items():
            if isinstance(value, str) and len(value) > 8 and value not in resource.inputs.values():
                name = f"${{{short_type(resource.type)} {resource.name}.{key}}}"
                found.setdefault(value, set()).add(name)
    return {value: min(names) for value, names in found.items() if len(names) == 1}


def _inputs(resource: Resource, names: Mapping[str, str]) -> dict[str, Any]:
    found = {
        key: _value(value, names)
        for key, value in sorted(resource.inputs.items())
        if key not in PROSE and value not in (None, [], {}, "")
    }
    flags = {"protected": resource.is_protected, "retained": resource.is_retained}
    return found | {flag: True for flag, is_set in flags.items() if is_set}


def _value(value: Any, names: Mapping[str, str]) -> Any:
    """JSON unpacked, so that a difference shows the line; computed values by name."""
    if isinstance(value, Mapping):
        return _mapping(value, names)
    if isinstance(value, (list, tuple)):
        return _list(value, names)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    return names.get(value) or (_document(value, names) if value[:1] in ("{", "[") else value)


def _mapping(value: Mapping[str, Any], names: Mapping[str, str]) -> Any:
    if set(value) == {"Statement", "Version"}:
        return [_statement(found, names) for found in value["Statement"]]
    return {key: _value(found, names) for key, found in sorted(value.items())}


def _list(value: Sequence[Any], names: Mapping[str, str]) -> Any:
    """Lists of one as their item; lists of names and values (environments) as mappings."""
    pairs = [set(found) for found in value if isinstance(found, Mapping)]
    for content in ("value", "valueFrom"):
        if pairs and all(pair == {"name", content} for pair in pairs):
            return {found["name"]: _value(found[content], names) for found in value}
    return [_value(found, names) for found in value]


def _statement(statement: Mapping[str, Any], names: Mapping[str, str]) -> Any:
    """What a statement says, and on what: {"Read: Allow s3:GetObject": [arn, ...], "if": ...}."""
    who, what = statement.get("Principal"), statement.get("Action", statement.get("NotAction"))
    parts = [f"{statement.get('Sid', '-')}: {statement['Effect']}"]
    parts += [f"{_words(who)}:"] if who else []
    parts += ["all but"] if "NotAction" in statement else []
    parts += [_words(what)]
    said, condition = " ".join(parts), statement.get("Condition")
    on = [_arn(text, names) for text in _texts(statement.get("Resource", []))]
    found = {said: sorted(set(on)) or "this"} | ({"if": condition} if condition else {})
    return found if condition or on else said


def _arn(text: str, names: Mapping[str, str]) -> str:
    """A resource by its name; an object of S3 by its bucket's."""
    owner, slash, inside = text.partition("/")
    return names.get(text) or f"{names.get(owner, owner)}{slash}{inside}"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{kind} {_words(found)}" for kind, found in value.items())
    return ", ".join(_texts(value))


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _document(text: str, names: Mapping[str, str]) -> Any:
    """Parsed JSON; what is generated from elsewhere (a schema, a dashboard) by its digest."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if isinstance(found, Mapping) and GENERATED & set(found):
        return f"{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return _value(found, names)


class _Plain(yaml.SafeDumper):
    """No anchors: a value is written wherever it stands. Short leaves on one line."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class asks per value
        return True

    def represent_node(self, data: Any) -> yaml.Node:
        """A collection in flow style if it fits a line."""
        node = super().represent_data(data)
        if isinstance(node, yaml.CollectionNode):
            node.flow_style = len(json.dumps(data)) < SHORT
        return node

    represent_data = represent_node


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
