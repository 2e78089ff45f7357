"""A picture of a stack: its components, what each is made of, and which one uses which.

From the recorded graph, so it cannot be out of date: an arrow is a property of one component's
resource that was read from another's. Written with the golden files (`snapshot.py --write`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from synth import Graph, Resource

HEAD = """# What a stack is made of

Written by `python infra/snapshot.py --write` from the stack {stack}; a test keeps it current. An
arrow goes from what is used to its user. Left out: keys, roles and log groups, which everything
has, and arrows that others already say.

"""
QUIET = ("iam", "kms")
"""Modules that nearly everything refers to: their arrows would hide the others."""
EVERYWHERE = ("security", "networking")
"""Components that every other one stands on; drawn below, without arrows."""
SHOWN = 4
"""Kinds of resources that a box names."""


def draw(graph: Graph) -> str:
    """The Markdown page."""
    lines = ["```mermaid", "flowchart LR"]
    owners = {found.urn: _component(found) for found in graph.custom}
    contents = _contents(graph, owners)
    lines += [f'  {_id(name)}["<b>{name}</b><br/>{contents[name]}"]' for name in sorted(contents)]
    lines += [
        f"  {_id(a)} --> {_id(b)}" for a, b in sorted(_without_detours(_edges(graph, owners)))
    ]
    lines.append("```")
    total = len(graph.custom)
    foot = f"\n{total} resources; every component also stands on networking and security.\n"
    return HEAD.format(stack=graph.stack) + "\n".join(lines) + "\n" + foot


def _component(resource: Resource) -> str:
    return "" if "pulumi:Stack::" in resource.parent else resource.parent.rpartition("::")[2]


def _id(name: str) -> str:
    return name.replace("-", "_")


def _contents(graph: Graph, owners: Mapping[str, str]) -> dict[str, str]:
    """For each component its most frequent kinds: "4 Bucket, 2 Table, ..."."""
    kinds: dict[str, Counter[str]] = {}
    for found in graph.custom:
        if owners[found.urn]:
            kind = found.type.rpartition(":")[2]
            kinds.setdefault(owners[found.urn], Counter())[kind] += 1
    return {name: _list(counter) for name, counter in kinds.items()}


def _list(kinds: Counter[str]) -> str:
    ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count} {kind}" for kind, count in ranked[:SHOWN]]
    rest = sum(count for _, count in ranked[SHOWN:])
    return "<br/>".join([*named, *([f"{rest} more"] if rest else [])])


def _edges(graph: Graph, owners: Mapping[str, str]) -> set[tuple[str, str]]:
    """(used, user) of components."""
    types = {found.urn: found.type for found in graph.custom}
    return {
        (owners[urn], owners[found.urn])
        for found in graph.custom
        for urns in found.by_property.values()
        for urn in urns
        if urn in owners and _counts(types[urn], owners[urn], owners[found.urn])
    }


def _counts(used_type: str, used: str, user: str) -> bool:
    is_quiet = used_type.split(":")[1].partition("/")[0] in QUIET
    return bool(used and user) and used != user and used not in EVERYWHERE and not is_quiet


def _without_detours(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Edges that no chain of others says as well."""
    return {edge for edge in edges if not _reaches(edges - {edge}, *edge)}


def _reaches(edges: set[tuple[str, str]], start: str, end: str) -> bool:
    seen, ahead = {start}, [start]
    while ahead:
        here = ahead.pop()
        following = {b for a, b in edges if a == here} - seen
        if end in following:
            return True
        seen |= following
        ahead += following
    return False
