"""The graphs of all stacks, synthesised once: what the judges look at."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import handlers
import pytest
import synth
from program import deploy
from settings import Options

EVERY_OPTION: Mapping[str, Any] = {
    **{name: True for name, field in Options.model_fields.items() if field.annotation is bool},
    "quicksight_user_arn": "arn:aws:quicksight:eu-west-1:123456789012:user/default/analyst",
    "jwt_issuer": "https://login.example.com",
    "jwt_audience": ["headrace"],
    "cloudfront_domain": "exports.example.com",
    "cloudfront_certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/0",
    "cloudfront_public_key": "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
}


class Graphs:
    """Graphs by stack; `mutated` makes one from other settings. Synthesised when first asked."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, bool], synth.Graph] = {}

    def get(self, stack: str, *, is_preview: bool = False) -> synth.Graph:
        key = (stack, is_preview)
        if key not in self._made:
            self._made[key] = synth.synthesise(stack, deploy, is_preview=is_preview)
        return self._made[key]

    def with_every_option(self) -> synth.Graph:
        """Prod with every optional component: the graph that has most to get wrong."""
        if ("every option", False) not in self._made:
            # `api` and `lineage` are refused until their handlers are written.
            with mock.patch.object(handlers, "is_written", return_value=True):
                made = self.mutated("prod", lambda settings: settings.update(options=EVERY_OPTION))
            self._made["every option", False] = made
        return self._made["every option", False]

    @staticmethod
    def mutated(stack: str, change: Callable[[dict[str, Any]], None]) -> synth.Graph:
        """The graph of a stack whose settings `change` has changed in place."""
        config: dict[str, Any] = copy.deepcopy(synth.read_stack(stack))
        change(config["headrace:settings"])
        return synth.synthesise(stack, deploy, config=config)


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
    return lambda stack: copy.deepcopy(synth.read_stack(stack)["headrace:settings"])
