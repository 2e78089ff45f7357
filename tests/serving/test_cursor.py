"""Cursors: nobody makes or changes one, and one belongs to one query of one caller."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from stream.errors import ConfigError
from stream.serving.cursor import PATTERN, Cursor, fingerprint, seal, unseal
from stream.serving.keys import local_key_ring, local_token, read_key_ring
from stream.serving.problem import ProblemError

NEW, OLD = "n" * 40, "o" * 40
RING = read_key_ring(SecretStr(NEW), "here")
PRINT = fingerprint("me", "/v1/trades", {"symbol": "ACME"})
CURSOR = Cursor(PRINT, 5, 1, 2, (7, "sim", "ACME", "id-1"), 1_000)


def refused(text: str, *, wanted: str = PRINT, now_ms: int = 0, ring=RING) -> tuple[int, str]:
    with pytest.raises(ProblemError) as raised:
        unseal(text, ring, wanted, now_ms)
    return raised.value.problem.status, raised.value.problem.kind.rpartition(":")[2]


def test_cursor_that_was_sealed_opens():
    assert unseal(seal(CURSOR, RING), RING, PRINT, 1_000) == CURSOR


def test_cursor_is_of_the_documented_form():
    assert re.fullmatch(PATTERN, seal(CURSOR, RING))


@given(st.data())
def test_cursor_changed_anywhere_is_refused(data):
    text = seal(CURSOR, RING)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    assert refused(text[:at] + other + text[at + 1 :]) == (400, "cursor-refused")


@given(st.text(max_size=200))
def test_cursor_made_by_hand_is_refused(text):
    assert refused(text) == (400, "cursor-refused")


def test_cursor_with_another_snapshot_and_its_old_seal_is_refused():
    payload, _, mac = seal(CURSOR, RING).partition(".")
    inside = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = json.dumps({**inside, "s": 6}, separators=(",", ":")).encode()
    head = base64.urlsafe_b64encode(forged).rstrip(b"=").decode()
    assert refused(f"{head}.{mac}") == (400, "cursor-refused")


@pytest.mark.parametrize(
    "other",
    [
        fingerprint("you", "/v1/trades", {"symbol": "ACME"}),
        fingerprint("me", "/v1/quotes", {"symbol": "ACME"}),
        fingerprint("me", "/v1/trades", {"symbol": "ACMF"}),
        fingerprint("me", "/v1/trades", {"symbol": "ACME", "venue": "sim"}),
    ],
)
def test_cursor_of_another_caller_route_or_query_is_refused(other):
    assert refused(seal(CURSOR, RING), wanted=other) == (400, "cursor-of-another-query")


def test_cursor_that_is_too_old_says_begin_again():
    assert refused(seal(CURSOR, RING), now_ms=1_001) == (410, "cursor-expired")


def test_cursor_of_the_key_before_opens_until_that_key_is_gone():
    old = seal(CURSOR, read_key_ring(SecretStr(OLD), "here"))
    both = read_key_ring(SecretStr(f"{NEW}\n{OLD}\n"), "here")
    assert unseal(old, both, PRINT, 0) == CURSOR
    assert unseal(seal(CURSOR, both), RING, PRINT, 0) == CURSOR  # the first one seals
    assert refused(old) == (400, "cursor-refused")


def test_key_that_is_too_short_is_refused_and_never_shown():
    with pytest.raises(ConfigError, match="at least 32 characters") as raised:
        read_key_ring(SecretStr("short-secret"), "secret api/cursor-key")
    assert "short-secret" not in str(raised.value)
    assert NEW not in repr(RING)


def test_secrets_of_a_home_are_made_once_and_are_its_owners_alone(tmp_path):
    token, ring = local_token(tmp_path), local_key_ring(tmp_path)
    assert (local_token(tmp_path), local_key_ring(tmp_path)) == (token, ring)
    assert len(token.get_secret_value()) >= 43
    found = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    assert found == {"api-token": "0o600", "api-cursor-key": "0o600"}


def test_home_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Choose another HEADRACE_HOME"):
        local_token(tmp_path / "file" / "home")
