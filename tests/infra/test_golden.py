"""The golden files and the diagram are what the program declares today; a change shows in them."""

from __future__ import annotations

import pytest
import yaml

import snapshot
import synth
from diagram import draw
from judges.plant import plant, put

STREAM = "aws:kinesis/stream:Stream"
TASK = "aws:ecs/taskDefinition:TaskDefinition"


@pytest.mark.parametrize("stack", synth.STACKS)
def test_the_golden_file_of_a_stack_is_current(graphs, stack):
    path = snapshot.FOLDER / f"{stack}.yaml"
    changes = snapshot.differences(path, snapshot.render(graphs.get(stack)))
    assert not changes, "".join(changes[:60])


def test_the_diagram_is_current(graphs):
    changes = snapshot.differences(snapshot.DIAGRAM, draw(graphs.get("prod")))
    assert not changes, "".join(changes)


def test_a_changed_input_shows_as_one_changed_line(graphs, tmp_path):
    before = snapshot.render(graphs.get("prod"))
    path = tmp_path / "prod.yaml"
    path.write_text(before)
    after = snapshot.render(plant(graphs.get("prod"), STREAM, put("retentionPeriod", 25)))
    lines = [line for line in snapshot.differences(path, after) if line[0] in "+-"]
    changed = [line.strip() for line in lines if not line.startswith(("+++", "---"))]
    assert changed[-1] == "+    retentionPeriod: 25"
    assert len(changed) == 2


def test_a_golden_file_names_every_resource_once_and_no_computed_value(graphs):
    graph = graphs.get("prod")
    written = yaml.safe_load(snapshot.render(graph))
    assert sum(len(resources) for resources in written.values()) == len(graph.custom)
    task = graph.of(TASK)[0]
    assert task.outputs["arn"] not in snapshot.render(graph)


def test_the_order_of_registration_does_not_matter(graphs):
    graph = graphs.get("prod")
    turned = synth.Graph(graph.stack, list(reversed(graph.resources)), graph.outputs)
    assert snapshot.render(turned) == snapshot.render(graph)
    assert draw(turned) == draw(graph)


def test_the_diagram_fits_a_screen(graphs):
    page = draw(graphs.get("prod"))
    boxes, arrows = page.count("<b>"), page.count("-->")
    assert 8 <= boxes <= 30
    assert boxes - 10 <= arrows <= 40
