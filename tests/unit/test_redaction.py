"""Secrets that are planted in log lines never come out; words that are none stay."""

from __future__ import annotations

import json
import logging
import time

import pytest

from stream.settings import SECRETS, load_settings, secret_values
from stream.telemetry import set_up_logging
from stream.telemetry.redaction import MASK, Redactor

KNOWN = 'pa55 "w/ü+&=%'
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
AWS_KEY, AWS_SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

PLANTED = [
    (f"key {AWS_KEY} was used", AWS_KEY),
    (f"aws_secret_access_key = {AWS_SECRET}", AWS_SECRET),
    (f'{{"SecretAccessKey": "{AWS_SECRET}", "Expiration": 1}}', AWS_SECRET),
    (f"{{'secret_key': '{AWS_SECRET}'}}", AWS_SECRET),
    (f"AWS_SESSION_TOKEN={AWS_SECRET}", AWS_SECRET),
    ("Authorization: Bearer abcdef123456", "abcdef123456"),
    ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("{'authorization': 'AWS4-HMAC-SHA256 Credential=x, Signature=fe5f80'}", "fe5f80"),
    ('headers={"Authorization":"Token 0123456789"}', "0123456789"),
    (f"token {JWT} expired", JWT),
    ("mongodb://reader:s3cr3t-pw@db.example:27017/x", "s3cr3t-pw"),
    ("postgresql+asyncpg://me:p%40ss@host/db", "p%40ss"),
    ("GET /stable/quote?symbol=AAPL&apikey=abcdef HTTP/1.1", "abcdef"),
    ("https://s3/x?X-Amz-Signature=0a1b2c&X-Amz-Date=1", "0a1b2c"),
    ("https://s3/x?X-Amz-Security-Token=tok3n%2F&a=1", "tok3n%2F"),
    ("password: hunter2", "hunter2"),
    ("PGPASSWORD=hunter2 psql", "hunter2"),
    ('body {\\"client_secret\\":\\"hunter2\\"}', "hunter2"),
]


@pytest.mark.parametrize(("text", "secret"), PLANTED, ids=lambda v: v[:24])
def test_what_looks_like_a_secret_is_taken_out(text, secret):
    cleaned = Redactor().clean(text)
    assert secret not in cleaned
    assert MASK in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "trades/headrace-trades.1a2b3c4d/shardId-000000000001: opened in lane 3 at TRIM_HORIZON",
        "bronze/source=trades/x.parquet exists with sha256 " + "9f" * 32,
        "secrets are read from Secrets Manager; tokens are 12 of 100",
        "http://127.0.0.1:4566/bucket/key took 2.5 s (at most 5:00)",
        "see deploy/runbooks/immutable-object.md; ask a@b.example",
        "the partition key of 49590338271490256608559692538361571095921575989136588898 is short",
    ],
)
def test_ordinary_line_stays_as_it_is(text):
    assert Redactor(["other-secret"]).clean(text) == text


@pytest.mark.parametrize("style", ["text", "json"])
def test_known_secret_is_taken_out_of_message_arguments_and_traceback(style, capsys):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        set_up_logging("INFO", style, secrets=[KNOWN])
        try:
            raise ValueError(f"cannot open {KNOWN}")
        except ValueError:
            logging.getLogger("stream").exception("with %r and %s", KNOWN, {"k": KNOWN})
    finally:
        root.handlers[:], root.level = before
    written = capsys.readouterr().err
    assert written.count(MASK) >= 3
    for spelling in (KNOWN, json.dumps(KNOWN)[1:-1], repr(KNOWN)[1:-1]):
        assert spelling not in written


def test_secrets_of_settings_and_aws_are_known(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
    given = {name: f"given-{name}-0123456789-0123456789-0123" for name in SECRETS}
    settings = load_settings(home=tmp_path, **given)
    assert {*given.values(), AWS_SECRET} <= set(secret_values(settings))


@pytest.mark.parametrize("text", ["a" * 50_000, "a-" * 25_000, "token" * 10_000, "x://" * 12_000])
def test_long_line_takes_no_long_time(text):
    began = time.process_time()
    Redactor(["known-secret"]).clean(text)
    assert time.process_time() - began < 1
