"""One emulator and one nursery for all crash windows of a module."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from crash_stage import Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("crash"))
    yield stage
    stage.close()


@pytest.fixture(autouse=True)
def reachable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process reaches the emulator, too."""
    if "stage" in request.fixturenames:
        for name, value in request.getfixturevalue("stage").variables.items():
            monkeypatch.setenv(name, value)
