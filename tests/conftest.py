"""What every test starts from: no network beyond this machine, a home of its own, fixed luck.

tests/unit and tests/property may open no socket at all (Unix sockets excepted); everything else
only reaches 127.0.0.1.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts

from stream.settings import Settings

WITHOUT_NETWORK = ("unit", "property", "architecture")

# Each AWS session reads botocore's descriptions of services anew, half of the time of a test that
# asks AWS. Clients of one session share them, so all may.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

hypothesis_settings.register_profile(
    "ci",
    derandomize=True,  # a red build must be red again when it is repeated
    deadline=None,  # shared machines stall
    suppress_health_check=[HealthCheck.too_slow],
)
hypothesis_settings.register_profile("explore", deadline=None, max_examples=2_000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _network(request: pytest.FixtureRequest) -> None:
    """Block sockets according to the folder that the test lies in."""
    tests = Path(__file__).parent
    inside = request.path.relative_to(tests).parts if request.path.is_relative_to(tests) else ()
    if not inside or inside[0] in WITHOUT_NETWORK:
        disable_socket(allow_unix_socket=True)
    else:
        enable_socket()
        socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="module", autouse=True)
def _environment_of_the_process() -> Iterator[None]:
    """A verb that ran in this process pointed it at an emulator: the next module's is another."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a developer's settings nor an AWS account of theirs reaches a test."""
    for name in list(os.environ):
        if name.startswith(("HEADRACE_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """A verb that ran in this process leaves no handler behind that writes to its closed stderr."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home of a platform."""
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    """Settings of a platform that touches nothing outside the test's folder."""
    return Settings(home=home, lake=f"file://{home}/lake")
