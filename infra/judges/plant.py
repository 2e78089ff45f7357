"""Plant a fault in a recorded graph: a judge that does not see it is no judge."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from synth import Graph, Resource

Change = Callable[[dict[str, Any]], None]
Condition = Callable[[Resource], bool]


def find(graph: Graph, type_: str, where: Condition | None = None) -> Resource:
    """The first resource of a type, in the order of registration.

    Raises: KeyError naming the types that there are: a fault that can be planted nowhere proves
    nothing.
    """
    for resource in graph.of(type_):
        if where is None or where(resource):
            return resource
    there = sorted({resource.type for resource in graph.custom})
    raise KeyError(f"no {type_} to plant a fault in; the graph has {there}")


def plant(graph: Graph, type_: str, change: Change, where: Condition | None = None) -> Graph:
    """A copy of the graph in which `change` has edited the inputs of the first of a type."""
    victim = find(graph, type_, where)
    inputs = copy.deepcopy(dict(victim.inputs))
    change(inputs)
    return replace(graph, victim, dataclasses.replace(victim, inputs=inputs))


def remove(graph: Graph, type_: str, where: Condition | None = None) -> Graph:
    """A copy of the graph without the first of a type."""
    victim = find(graph, type_, where)
    left = [resource for resource in graph.resources if resource is not victim]
    return dataclasses.replace(graph, resources=left)


def replace(graph: Graph, old: Resource, new: Resource) -> Graph:
    """A copy of the graph with one resource replaced."""
    resources = [new if resource is old else resource for resource in graph.resources]
    return dataclasses.replace(graph, resources=resources)


def put(key: str, value: Any) -> Change:
    """Set an input: "networkConfiguration.assignPublicIp" goes down."""

    def change(inputs: dict[str, Any]) -> None:
        *path, last = key.split(".")
        for step in path:
            inputs = inputs[step]
        inputs[last] = value

    return change


def drop(key: str) -> Change:
    """Remove an input; KeyError if it is not there."""

    def change(inputs: dict[str, Any]) -> None:
        del inputs[key]

    return change


def in_json(key: str, change: Callable[[Any], None]) -> Change:
    """Edit an input that is JSON text: a policy, container definitions."""

    def changed(inputs: dict[str, Any]) -> None:
        document = json.loads(inputs[key])
        change(document)
        inputs[key] = json.dumps(document)

    return changed


def in_container(change: Callable[[dict[str, Any]], None]) -> Change:
    """Edit the first container of a task definition."""
    return in_json("containerDefinitions", lambda containers: change(containers[0]))


def add_statement(key: str, statement: Mapping[str, Any]) -> Change:
    """Add a statement to a policy document."""
    return in_json(key, lambda document: document["Statement"].append(dict(statement)))
