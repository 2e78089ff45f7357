"""The graphs of all stacks, synthesised once: what the judges look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

import synth
from program import deploy
from settings import Options

ALL_OPTIONS: Mapping[str, Any] = {
    **{name: True for name, field in Options.model_fields.items() if field.annotation is bool},
    "jwt_issuer": "https://login.example.com/",
    "jwt_audience": ["headrace"],
    "quicksight_user_arn": "arn:aws:quicksight:eu-west-1:123456789012:user/default/analyst",
    "cloudfront_domain": "exports.example.com",
    "cloudfront_certificate_arn": (
        "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
    ),
    "cloudfront_public_key": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
}
"""Every component that a stack may do without."""


class Graphs:
    """Graphs by stack; `mutated` makes one from other settings. Synthesised when first asked."""

    every_option = ALL_OPTIONS

    def __init__(self) -> None:
        self._made: dict[tuple[str, bool], synth.Graph] = {}

    def get(self, stack: str, *, is_preview: bool = False) -> synth.Graph:
        key = (stack, is_preview)
        if key not in self._made:
            self._made[key] = synth.synthesise(stack, deploy, is_preview=is_preview)
        return self._made[key]

    @staticmethod
    def mutated(stack: str, change: Callable[[dict[str, Any]], None]) -> synth.Graph:
        """The graph of a stack whose settings `change` has changed in place."""
        config = synth.read_stack(stack)
        change(config["headrace:settings"])
        return synth.synthesise(stack, deploy, config=config)

    def everything(self) -> synth.Graph:
        """prod with every option on."""
        key = ("prod with every option", False)
        if key not in self._made:
            self._made[key] = self.mutated(
                "prod", lambda settings: settings.update(options=dict(ALL_OPTIONS))
            )
        return self._made[key]

    @staticmethod
    def broken(graph: synth.Graph, type_: str, name: str, /, **inputs: Any) -> synth.Graph:
        """A copy of a graph in which one resource has other inputs: a planted fault."""
        wanted = graph.one(type_, name)
        others = [
            replace(found, inputs={**found.inputs, **inputs}) if found is wanted else found
            for found in graph.resources
        ]
        return synth.Graph(graph.stack, others, graph.outputs)

    @staticmethod
    def without(graph: synth.Graph, type_: str, name: str) -> synth.Graph:
        """A copy of a graph that lacks one resource: a planted fault."""
        wanted = graph.one(type_, name)
        others = [found for found in graph.resources if found is not wanted]
        return synth.Graph(graph.stack, others, graph.outputs)


@pytest.fixture(scope="session")
def graphs() -> Graphs:
    return Graphs()


@pytest.fixture(params=synth.STACKS)
def graph(request: pytest.FixtureRequest, graphs: Graphs) -> synth.Graph:
    """Each stack in turn."""
    return graphs.get(request.param)


@pytest.fixture
def settings_of() -> Callable[[str], Mapping[str, Any]]:
    """A stack's committed settings, unparsed."""
    return lambda stack: synth.read_stack(stack)["headrace:settings"]
