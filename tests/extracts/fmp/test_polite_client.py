"""The HTTP client of extracts against a server that limits, breaks and lies."""

from __future__ import annotations

import gzip
import logging
import threading
import traceback
from datetime import UTC, datetime
from email.utils import format_datetime

import orjson
import pytest
from pydantic import SecretStr

from batch.extracts.http import CallRule, JsonClient
from stream.clock import ManualClock
from stream.errors import ConfigError, StoreUnavailableError, ThrottledError

GOOD = b'[{"symbol":"AAPL", "price":1.10}]'
PATH = "profile"
PARAMS = {"symbol": "AAPL"}
RULE = CallRule(attempts=4, timeout_seconds=0.3)


def accept(value):
    return None


@pytest.fixture
def clock():
    return ManualClock(start_ns=1_764_000_000_000_000_000)


@pytest.fixture
def connect(fmp_server, key, clock):
    """Builds clients of the server; closes them."""
    clients = []

    def build(rule=RULE, url=fmp_server.url, api_key=key):
        client = JsonClient(
            "FMP",
            url,
            hosts=("x.example",),
            key_header="apikey",
            api_key=SecretStr(api_key),
            rule=rule,
            clock=clock,
        )
        clients.append(client)
        return client

    yield build
    for client in clients:
        client.close()


def test_client_gives_the_exact_bytes_and_sends_the_key_in_a_header(
    connect, fmp_server, fault, key
):
    fmp_server.faults = [fault(body=GOOD)]
    answer = connect().get(PATH, PARAMS, accept)
    assert (answer.data, answer.value) == (GOOD, orjson.loads(GOOD))
    path, params, headers = fmp_server.asked[0]
    assert (path, params, headers["apikey"]) == (PATH, PARAMS, key)


def test_client_unpacks_a_compressed_answer(connect, fmp_server, fault):
    fmp_server.faults = [fault(body=gzip.compress(GOOD), headers={"Content-Encoding": "gzip"})]
    assert connect().get(PATH, PARAMS, accept).data == GOOD


BROKEN = {
    "too many": {"status": 429},
    "server error": {"status": 500, "body": b"oops"},
    "unavailable": {"status": 503},
    "half an answer": {"body": GOOD, "cut": True},
    "half a compressed answer": {
        "body": gzip.compress(GOOD)[:-12],
        "headers": {"Content-Encoding": "gzip"},
    },
    "no answer": {"mute": True},
    "a stall": {"body": GOOD, "stall_seconds": 0.6},
    "half a JSON": {"body": GOOD[:-3]},
}
HTML = {"body": b"<html>sign in</html>", "headers": {"Content-Type": "text/html"}}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answer_is_asked_for_again(connect, fmp_server, fault, clock, name):
    fmp_server.faults = [fault(**BROKEN[name]), fault(**BROKEN[name]), fault(body=GOOD)]
    begin = clock.monotonic()
    assert connect().get(PATH, PARAMS, accept).data == GOOD
    assert len(fmp_server.asked) == 3
    assert 3.0 <= clock.monotonic() - begin <= 6.0  # 2 and 4 s, half of each scattered


@pytest.mark.parametrize(
    ("name", "error"), [("too many", ThrottledError), ("server error", StoreUnavailableError)]
)
def test_answer_that_stays_broken_is_a_retryable_error_that_counts_attempts(
    connect, fmp_server, fault, name, error
):
    fmp_server.faults = [fault(**BROKEN[name]) for _ in range(9)]
    with pytest.raises(error, match="gave up after 4 attempts") as raised:
        connect().get(PATH, PARAMS, accept)
    assert len(fmp_server.asked) == 4
    assert "FMP profile?symbol=AAPL" in str(raised.value)


def test_page_for_people_is_a_config_error_at_once(connect, fmp_server, fault):
    fmp_server.faults = [fault(**HTML)]
    with pytest.raises(ConfigError) as raised:
        connect().get(PATH, PARAMS, accept)
    found = "expected JSON, found content type 'text/html' and '<html>sign in</html>'"
    assert found in str(raised.value)
    assert len(fmp_server.asked) == 1


def test_default_waits_outlast_a_minute():
    rule = CallRule()
    waits = [rule.backoff_seconds * 2.0**n for n in range(rule.attempts - 1)]
    assert sum(min(wait, rule.max_backoff_seconds) / 2 for wait in waits) > 60


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed(connect, fmp_server, fault, clock, status, form):
    later = datetime.fromtimestamp(clock.now_ns() / 1e9 + 50, UTC)
    value = "50" if form == "seconds" else format_datetime(later, usegmt=True)
    fmp_server.faults = [fault(status=status, headers={"Retry-After": value})]
    begin = clock.monotonic()
    connect().get(PATH, PARAMS, accept)
    assert 50.0 <= clock.monotonic() - begin < 51.0


def test_retry_after_holds_every_thread_back(connect, fmp_server, fault, clock):
    client = connect(CallRule(attempts=1))
    fmp_server.faults = [fault(status=429, headers={"Retry-After": "40"})]
    with pytest.raises(ThrottledError):
        client.get(PATH, PARAMS, accept)
    begin = clock.monotonic()
    other = threading.Thread(target=client.get, args=(PATH, PARAMS, accept))
    other.start()
    other.join()
    assert 40.0 <= clock.monotonic() - begin < 41.0


def test_retry_after_of_hours_ends_the_call_at_once(connect, fmp_server, fault, clock):
    fmp_server.faults = [fault(status=429, headers={"Retry-After": "7200"})]
    begin = clock.monotonic()
    with pytest.raises(ThrottledError, match="asked again in 7200 s; an extract waits 900 s"):
        connect().get(PATH, PARAMS, accept)
    assert (len(fmp_server.asked), clock.monotonic()) == (1, begin)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
def test_refused_request_is_a_config_error_and_asked_once(connect, fmp_server, fault, status):
    fmp_server.faults = [fault(status, b'{"Error Message":"Premium Query Parameter"}')]
    with pytest.raises(ConfigError, match=rf"HTTP {status}.*Premium Query Parameter"):
        connect().get(PATH, PARAMS, accept)
    assert len(fmp_server.asked) == 1


def test_redirect_is_not_followed(connect, fmp_server, fault):
    fmp_server.faults = [fault(302, headers={"Location": f"{fmp_server.url}/elsewhere"})]
    with pytest.raises(ConfigError, match=r"HTTP 302 to 127\.0\.0\.1; redirects are not followed"):
        connect().get(PATH, PARAMS, accept)
    assert len(fmp_server.asked) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_answer_above_the_cap_is_refused_before_it_is_whole(connect, fmp_server, fault, packed):
    body = b"[" + b" " * 10_000_000 + b"]"
    headers = {"Content-Encoding": "gzip"} if packed else {}
    fmp_server.faults = [fault(body=gzip.compress(body) if packed else body, headers=headers)]
    with pytest.raises(ConfigError, match="more than 1,000,000 bytes; ask for fewer days"):
        connect(CallRule(max_answer_bytes=1_000_000)).get(PATH, PARAMS, accept)


def test_judge_decides_what_is_asked_again(connect, fmp_server):
    verdicts = [ThrottledError("calls used up"), StoreUnavailableError("odd"), None]
    connect().get(PATH, PARAMS, lambda value: verdicts.pop(0))
    assert len(fmp_server.asked) == 3


@pytest.mark.parametrize("name", [*BROKEN, "refused", "judged"])
def test_key_is_in_no_error_traceback_or_log_line(connect, fmp_server, fault, key, caplog, name):
    fault_of = {
        **BROKEN,
        "refused": {"status": 401},
        "judged": {"body": orjson.dumps({"Error Message": "key refused"})},
    }
    fmp_server.faults = [fault(**fault_of[name]) for _ in range(4)]
    verdict = ConfigError("refused") if name == "judged" else None
    caplog.set_level(logging.DEBUG)
    with pytest.raises((ConfigError, ThrottledError, StoreUnavailableError)) as raised:
        connect().get(PATH, PARAMS, lambda value: verdict)
    assert raised.value.__context__ is None
    inside = [frame for frame in raised.traceback if "batch" in str(frame.path)]
    shown = [f"{frame.frame.f_locals!r}" for frame in inside]
    assert len(shown) >= 1
    told = "".join(traceback.format_exception(raised.value))
    assert key not in "".join([told, *shown, caplog.text])


@pytest.mark.parametrize("status", [200, 401, 404, 429, 500])
def test_key_that_a_server_repeats_is_shown_as_stars(
    connect, fmp_server, fault, key, caplog, status
):
    # So far back that a text cut before it is cleaned would end inside the key.
    body = b"x" * 192 + key.encode() + b" is not a key"
    fmp_server.faults = [fault(status, body) for _ in range(4)]
    caplog.set_level(logging.DEBUG)
    with pytest.raises((ConfigError, ThrottledError, StoreUnavailableError)) as raised:
        connect().get(PATH, PARAMS, accept)
    for text in (str(raised.value), caplog.text):
        assert key[:4] not in text
    assert "***" in str(raised.value)


def test_judged_text_is_shown_without_the_key(connect, fmp_server, key):
    with pytest.raises(ConfigError, match=r"\*\*\* is no key") as raised:
        connect().get(PATH, PARAMS, lambda value: ConfigError(f"{key} is no key"))
    assert key not in repr(raised.value)


@pytest.mark.parametrize("api_key", ["", "with space", "line\n", "schlüssel", "tab\t"])
def test_unusable_key_is_refused_before_a_library_quotes_it(connect, api_key):
    with pytest.raises(ConfigError, match="an API key is visible ASCII") as raised:
        connect(api_key=api_key)
    assert not api_key or api_key not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        *("", "nonsense", "https://:443", "http://[::1", "ftp://x.example"),
        *("http://x.example/stable", "https://user:pw@x.example", "https://x.example/?apikey=1"),
    ],
)
def test_address_that_would_show_the_key_is_refused(connect, url):
    with pytest.raises(ConfigError, match="expected https://host/path") as raised:
        connect(url=url)
    assert "pw" not in str(raised.value)
