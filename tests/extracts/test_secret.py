"""Secrets from Secrets Manager: found, missing, denied, of another form; never shown."""

from __future__ import annotations

import logging

import boto3
import botocore.client
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from moto import mock_aws
from pydantic import SecretStr

from batch.aws.secret import fmp_api_key
from stream.errors import ConfigError, StoreUnavailableError, ThrottledError
from stream.lake.secret import read_secret

REGION = "eu-central-1"
KEY = "pl4nted-secret"


@pytest.fixture
def secrets(monkeypatch):
    """Secrets Manager, empty."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.client("secretsmanager", region_name=REGION)


@pytest.fixture
def answer_with(secrets, monkeypatch):
    """Makes the service answer with an error."""

    def fail(error):
        def call(self, operation, parameters):
            raise error

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)

    return fail


def refusal(code):
    return ClientError({"Error": {"Code": code, "Message": "said so"}}, "GetSecretValue")


@pytest.mark.parametrize("text", [KEY, f" {KEY}\n", f'{{"api_key": "{KEY}", "note": 1}}'])
def test_secret_is_read_as_text_or_json_and_shown_nowhere(secrets, caplog, text):
    caplog.set_level(logging.DEBUG, logger="stream")
    secrets.create_secret(Name="fmp", SecretString=text)
    found = read_secret("fmp", REGION)
    assert found.get_secret_value() == KEY
    assert KEY not in repr(found) + caplog.text


def test_secret_is_found_by_arn_and_the_current_version_counts(secrets):
    arn = secrets.create_secret(Name="fmp", SecretString="old")["ARN"]
    secrets.put_secret_value(SecretId="fmp", SecretString=KEY)
    assert read_secret(arn, REGION).get_secret_value() == KEY


@pytest.mark.parametrize("text", ["  ", "{}", '{"api_key": 7}', '{"api_key": ""}', '{"api_key'])
def test_secret_of_another_form_is_refused_without_its_text(secrets, text):
    secrets.create_secret(Name="fmp", SecretString=text)
    with pytest.raises(
        ConfigError, match="expected the key as text, or JSON with a text"
    ) as raised:
        read_secret("fmp", REGION)
    assert raised.value.__context__ is None
    assert "7" not in str(raised.value)


def test_binary_secret_is_refused(secrets):
    secrets.create_secret(Name="fmp", SecretBinary=b"\x00\x01")
    with pytest.raises(ConfigError, match="secret fmp: expected the key as text"):
        read_secret("fmp", REGION)


def test_missing_secret_is_named_with_its_region(secrets):
    with pytest.raises(ConfigError, match="secret fmp in eu-central-1 does not exist"):
        read_secret("fmp", REGION)


def test_deleted_secret_is_a_config_error(secrets):
    secrets.create_secret(Name="fmp", SecretString=KEY)
    secrets.delete_secret(SecretId="fmp")
    with pytest.raises(ConfigError, match=r"cannot be read \(InvalidRequestException"):
        read_secret("fmp", REGION)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (refusal("AccessDeniedException"), ConfigError, "needs secretsmanager:GetSecretValue"),
        (refusal("DecryptionFailure"), ConfigError, "cannot be read"),
        (refusal("ThrottlingException"), ThrottledError, "ThrottlingException"),
        (refusal("InternalServiceError"), StoreUnavailableError, "InternalServiceError: said so"),
        (ConnectTimeoutError(endpoint_url="x"), StoreUnavailableError, "did not answer"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_failure_is_told_by_its_consequence(answer_with, error, expected, message):
    answer_with(error)
    with pytest.raises(expected, match=message):
        read_secret("fmp", REGION)


def test_no_credentials_is_a_config_error():
    with pytest.raises(ConfigError, match="set AWS credentials"):
        read_secret("fmp", REGION)


def test_key_of_the_settings_wins_over_a_secret():
    assert fmp_api_key(SecretStr(f"{KEY}\n"), "fmp", REGION).get_secret_value() == KEY


@pytest.mark.parametrize("given", [None, SecretStr("")])
def test_secret_that_the_settings_name_is_read(secrets, given):
    secrets.create_secret(Name="fmp", SecretString=KEY)
    assert fmp_api_key(given, "fmp", REGION).get_secret_value() == KEY


@pytest.mark.parametrize("secret_id", [None, ""])
def test_no_key_at_all_names_both_settings(secret_id):
    with pytest.raises(ConfigError, match=r"HEADRACE_FMP_API_KEY, or HEADRACE_FMP_SECRET_ID"):
        fmp_api_key(None, secret_id, REGION)
