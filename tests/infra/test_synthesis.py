"""The program itself: three stacks, with and without known outputs, the same resources."""

from __future__ import annotations

import pytest

import synth


@pytest.mark.parametrize("stack", synth.STACKS)
def test_preview_declares_what_the_update_declares(stack, graphs):
    now, before = graphs.get(stack), graphs.get(stack, is_preview=True)
    assert [r.urn for r in now.resources] == [r.urn for r in before.resources]
    assert len({r.urn for r in now.resources}) == len(now.resources), "each URN once"


def test_every_resource_is_under_the_explicit_provider_and_in_a_component(graph):
    for resource in graph.custom:
        if resource.type != "pulumi:providers:aws":
            assert "pulumi:providers:aws::aws::" in resource.provider, resource.urn
            assert "headrace:aws:" in resource.parent, resource.urn
