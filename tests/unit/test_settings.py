"""Settings: defaults, every bad field at once, secrets, what children inherit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stream.errors import ConfigError
from stream.settings import (
    SECRETS,
    Settings,
    aws_endpoint,
    child_environment,
    load_settings,
    set_aws_environment,
)


def test_settings_without_environment_are_the_local_defaults():
    settings = load_settings()
    assert (settings.aws, settings.catalog, settings.emulator) == ("embedded", "sqlite", "roto")


def test_settings_bad_values_are_all_listed_with_what_was_found(monkeypatch):
    monkeypatch.setenv("HEADRACE_WINDOW_MS", "fast")
    monkeypatch.setenv("HEADRACE_LANES", "0")
    monkeypatch.setenv("HEADRACE_AWS", "gcp")
    monkeypatch.setenv("HEADRACE_EMULATOR", "moto")
    with pytest.raises(ConfigError) as error:
        load_settings()
    for part in ("WINDOW_MS", "'fast'", "LANES", "'0'", "AWS", "'gcp'", "'moto'", "embedded"):
        assert part in str(error.value)


def test_settings_unknown_variable_is_refused(monkeypatch):
    monkeypatch.setenv("HEADRACE_WINDOWS_MS", "5")
    with pytest.raises(ConfigError, match="HEADRACE_WINDOWS_MS: no such setting"):
        load_settings()


def test_settings_override_none_means_not_given():
    assert load_settings(shards=None).shards == Settings().shards


@pytest.mark.parametrize("start", ["TRIM_HORIZON", "LATEST", "2026-11-23T09:30:00+01:00"])
def test_settings_start_accepts_names_and_times(start):
    assert load_settings(start=start).start == start


def test_settings_secret_is_in_no_text(monkeypatch):
    monkeypatch.setenv("HEADRACE_FMP_API_KEY", "very-secret")
    settings = load_settings()
    assert "very-secret" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_child_environment_gives_a_child_the_same_settings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    parent = load_settings(
        shards=7,
        fmp_api_key="very-secret",
        pii_key="k" * 32,
        home=Path("relative"),
        epoch_seconds=0.5,
    )
    for name, value in child_environment(parent, SECRETS).items():
        monkeypatch.setenv(name, value)
    child = load_settings()
    assert child.home == tmp_path / "relative"
    assert child.model_dump(exclude={"home"}) == parent.model_dump(exclude={"home"})
    assert child.fmp_api_key is not None
    assert child.fmp_api_key.get_secret_value() == "very-secret"


def test_aws_environment_existing_values_win(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://mine")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://general")
    set_aws_environment({"AWS_ENDPOINT_URL_S3": "http://other"})
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "http://mine"
    assert aws_endpoint("s3") == "http://mine"
    assert aws_endpoint("kinesis") == "http://general"
