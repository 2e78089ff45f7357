"""What `headrace archive` says when something is missing, and how it configures both libraries."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest

from stream.archive.java import daemon_properties, find_jars, find_java
from stream.archive.rust import arrival_seconds
from stream.cli import headrace
from stream.cli.failure import USAGE, run_command
from stream.errors import ConfigError, FatalError
from stream.settings import Settings

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Told:
    """A record's arrival, as kcl_rs tells it: cut down to microseconds."""

    approximate_arrival_timestamp: datetime
    sequence_number: str = "7"

    @property
    def timestamp_millis(self) -> int:
        return int(self.approximate_arrival_timestamp.timestamp() * 1000)


@pytest.mark.parametrize("coordinator", ["kcl", "kcl-java"])
def test_archive_without_the_extra_says_how_to_install_it(coordinator, monkeypatch, capsys):
    for name in ("kcl_rs", "amazon_kclpy"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    code = run_command(headrace, ["archive", "trades", "--coordinator", coordinator])
    assert code == USAGE
    assert "pip install 'headrace[kcl]'" in capsys.readouterr().err


def test_archive_without_java_names_the_coordinator_that_needs_none(monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert run_command(headrace, ["archive", "trades", "--coordinator", "kcl-java"]) == USAGE
    assert "--coordinator kcl" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no `java` on the PATH"):
        find_java()


def test_archive_of_an_unknown_feed_names_the_nearest(capsys):
    assert run_command(headrace, ["archive", "trade"]) == USAGE
    assert "Did you mean 'trades'?" in capsys.readouterr().err


def test_package_without_jars_counts_as_missing(monkeypatch, tmp_path):
    (tmp_path / "amazon_kclpy").mkdir()
    (tmp_path / "amazon_kclpy" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "amazon_kclpy", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match="with its jars"):
        find_jars()
    jar = tmp_path / "amazon_kclpy" / "jars" / "amazon-kinesis-client-multilang-3.1.3.jar"
    jar.parent.mkdir()
    jar.touch()
    assert find_jars() == jar.parent


def test_daemon_is_pointed_at_the_emulators_that_the_sdks_would_use(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:2")
    settings = Settings(home=tmp_path, archive_poll_ms=700)
    found = daemon_properties(settings, "trades", None)
    assert found["kinesisEndpoint"] == "http://127.0.0.1:2"
    assert found["dynamoDBEndpoint"] == "http://127.0.0.1:1"
    assert found["executableName"].endswith(" -m stream.archive.child trades")
    assert found["idleTimeBetweenReadsInMillis"] == "700"
    assert "workerId" not in found


def test_daemon_on_an_account_is_given_no_endpoint(tmp_path):
    found = daemon_properties(Settings(home=tmp_path), "trades", "task-1")
    assert found["workerId"] == "task-1"
    assert "kinesisEndpoint" not in found


@pytest.mark.parametrize(("cut_us", "expected_ms"), [(597_000, 597), (596_999, 597), (0, 0)])
def test_arrival_is_the_millisecond_that_the_service_told(cut_us, expected_ms):
    told = Told(NOON + timedelta(microseconds=cut_us))
    assert arrival_seconds(told) == NOON.timestamp() + expected_ms / 1000


def test_arrival_finer_than_a_millisecond_is_refused():
    with pytest.raises(FatalError, match=r"record 7 arrived at .*\.309672.*kinesis-local"):
        arrival_seconds(Told(NOON + timedelta(microseconds=309_672)))


def test_embedded_emulator_is_refused_at_once_with_what_to_set(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kcl_rs", ModuleType("kcl_rs"))
    assert run_command(headrace, ["archive", "trades"]) == USAGE
    assert "AWS_ENDPOINT_URL_KINESIS" in capsys.readouterr().err
