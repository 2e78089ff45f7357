"""Whatever a secret is made of, and wherever it stands in a line, it does not come out."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote, quote_plus

from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.telemetry.logs import JsonFormatter, TextFormatter
from stream.telemetry.redaction import MASK, SHORTEST, Redactor

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
SECRET = st.text(st.characters(exclude_categories=("Cs",)), min_size=SHORTEST, max_size=60).filter(
    lambda text: text not in MASK and MASK not in text
)
SPELLINGS = (
    str,
    quote,
    quote_plus,
    repr,
    json.dumps,
    lambda text: base64.b64encode(text.encode()).decode(),
)


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("stream", logging.INFO, __file__, 1, message, args, None)


@settings(max_examples=60, deadline=None)
@given(secret=SECRET, before=TEXT, after=TEXT, spell=st.sampled_from(SPELLINGS))
@example(secret="a.*[b]$^(c", before="", after="", spell=str)
@example(secret='quo"te\\n\u0000', before="'", after='"', spell=json.dumps)
def test_known_secret_in_any_spelling_is_gone(secret, before, after, spell):
    cleaned = Redactor([secret]).clean(f"{before}{spell(secret)}{after}")
    assert secret not in cleaned
    assert MASK in cleaned


@settings(max_examples=60, deadline=None)
@given(secret=SECRET, before=TEXT)
def test_known_secret_leaves_neither_formatter(secret, before):
    redactor = Redactor([secret])
    line = record("%s said %s", before, secret)
    assert secret not in json.loads(JsonFormatter(redactor=redactor).format(line))["message"]
    said = TextFormatter(redactor).format(line)
    assert secret not in said.partition("stream: ")[2]


@settings(max_examples=60, deadline=None)
@given(
    user=st.from_regex(r"[a-z]{0,8}", fullmatch=True),
    password=st.from_regex(r"[A-Za-z0-9%!$&*+=~-]{4,20}", fullmatch=True),
)
def test_password_in_an_address_is_gone(user, password):
    address = f"cannot reach amqps://{user}:{password}@host.example:5671/x"
    expected = f"cannot reach amqps://{user}:{MASK}@host.example:5671/x"
    assert Redactor().clean(address) == expected


@settings(max_examples=60, deadline=None)
@given(text=TEXT)
def test_cleaning_twice_changes_nothing_more(text):
    once = Redactor().clean(text)
    assert Redactor().clean(once) == once
