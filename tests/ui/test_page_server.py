"""What the page's server answers, to whom, and with which headers; a real server, no browser."""

from __future__ import annotations

import json
import socket
import threading
import time
from functools import partial

import httpx
import pytest

from stream.errors import ConfigError, StoreUnavailableError
from stream.ui.address import announced, read_page
from stream.ui.collector import Collector
from stream.ui.guard import host_name
from stream.ui.server import free_port, is_free, listen

# The certificates of the world cost 20 ms a call.
get = partial(httpx.get, verify=False)
request = partial(httpx.request, verify=False)
stream = partial(httpx.stream, verify=False)
PATHS = ("/", "/static/app.js", "/static/tokens.css", "/api/state", "/api/history?feed=trades")


def events_of(url, count, timeout=10):
    """The first states of the stream of events."""
    found, kind = [], ""
    with stream("GET", f"{url}events", timeout=timeout) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: ") and kind == "state":
                found.append(json.loads(line[6:]))
                if len(found) == count:
                    return found
    return found


@pytest.mark.parametrize("path", PATHS)
def test_answer_forbids_foreign_code_frames_and_sniffing(site, path):
    answer = get(site.url + path[1:])
    assert answer.status_code == 200, answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def test_page_holds_no_inline_script_style_or_foreign_address(site):
    text = get(site.url).text
    assert "<script>" not in text
    assert "<style" not in text
    assert " style=" not in text
    assert " onclick" not in text
    assert "//" not in text.replace("<!--", "")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:1", 200),
        ("[::1]:8380", 200),
        ("LOCALHOST", 200),
        ("pager.example", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("localhost.", 421),
        ("pager.example@evil.example", 421),
    ],
)
def test_name_that_is_rebound_to_this_machine_is_refused(site, host, status):
    answer = get(f"{site.url}api/state", headers={"Host": host})
    assert answer.status_code == status
    if status == 421:
        assert "trades" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["", "api/state", "events"])
def test_method_that_could_change_something_is_refused(site, method, path):
    assert request(method, site.url + path).status_code == 405


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("api/state", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("events", {"Sec-Fetch-Site": "same-site"}, 403),
        ("api/state", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("api/state", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("api/state", {}, 200),
    ],
)
def test_other_site_may_link_to_the_page_and_read_nothing(site, path, headers, status):
    assert get(site.url + path, headers=headers).status_code == status


@pytest.mark.parametrize(
    "path", ["static/../app.py", "static/%2e%2e/app.py", "static//etc/passwd", "nothing"]
)
def test_file_beside_the_page_is_not_served(site, path):
    assert get(site.url + path).status_code == 404


def test_raw_record_travels_as_json_text(site):
    answer = get(f"{site.url}api/state")
    assert answer.headers["content-type"] == "application/json"
    trades = next(f for f in answer.json()["feeds"] if f["feed"] == "trades")
    raw = site.state.feed("trades").rejects[0].samples[0].raw
    assert "<script>" in raw
    assert trades["rejects"][0]["samples"][0]["raw"] == raw


def test_history_of_a_feed_is_oldest_first_and_of_no_feed_404(site):
    site.samples = [{"at_ms": 1, "behind_ms": 5}, {"at_ms": 2, "behind_ms": None}]
    answer = get(f"{site.url}api/history", params={"feed": "trades"})
    assert answer.json() == {"feed": "trades", "samples": site.samples}
    assert get(f"{site.url}api/history?feed=<b>").status_code == 404
    assert get(f"{site.url}api/history").status_code == 404


def test_stream_of_events_brings_a_state_at_once_and_another_each_second(site):
    started = time.monotonic()
    first, second = events_of(site.url, 2)
    assert time.monotonic() - started < 4
    assert [f["feed"] for f in first["feeds"]] == ["books", "news", "quotes", "trades"]
    assert second["at_ms"] > first["at_ms"]


def test_many_open_pages_cost_one_reading_a_second(site):
    events_of(site.url, 1)
    before, started = site.readings, time.monotonic()
    threads = [threading.Thread(target=events_of, args=(site.url, 3)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert site.readings - before <= (time.monotonic() - started) + 2


def test_error_while_reading_becomes_a_problem_beside_the_last_state(site):
    events_of(site.url, 1)
    site.error = StoreUnavailableError("the lake does not answer")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        state = events_of(site.url, 2)[-1]
        if state["problems"][0]["what"] == "the lake does not answer":
            break
    assert state["problems"][0]["what"] == "the lake does not answer"
    assert len(state["feeds"]) == 4


def test_health_tells_how_many_pages_are_open(site):
    events_of(site.url, 1)
    health = get(f"{site.url}healthz")
    assert health.status_code == 200
    assert health.json()["is_well"] is True


def test_collector_that_fails_for_an_unknown_reason_says_so_and_ends():
    def read():
        raise ZeroDivisionError

    ended = threading.Event()
    collector = Collector(read)
    collector.on_failure = ended.set
    collector.start()
    assert ended.wait(5)
    assert isinstance(collector.failure, ZeroDivisionError)


def test_busy_port_is_refused_with_what_to_do(home):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        with pytest.raises(ConfigError, match=rf"port {port}: another program.*--port 0"):
            listen("127.0.0.1", port, home)
        with (
            announced(home, f"http://127.0.0.1:{port}/"),
            pytest.raises(ConfigError, match="served there already: open http"),
        ):
            listen("127.0.0.1", port, home)


def test_address_that_this_machine_lacks_is_refused(home):
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 port 0: no such address"):
        listen("192.0.2.1", 0, home)


def test_free_port_is_free():
    port = free_port("127.0.0.1")
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free("127.0.0.1", port)


def test_page_is_found_while_it_is_served_and_not_after(home):
    with announced(home, "http://127.0.0.1:8380/"):
        page = read_page(home)
        assert page is not None
        assert page.port == 8380
        with announced(home, "http://127.0.0.1:9/"):  # a second one does not take its place
            assert read_page(home) == page
        assert read_page(home) == page
    assert read_page(home) is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"url": "x"}', '{"url": "x", "process": {"pid": 1, "started": "0"}}']
)
def test_address_of_a_page_that_is_gone_is_no_page(home, text):
    path = home / "run" / "ui.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert read_page(home) is None


def test_host_name_of_a_header_is_without_port_and_in_small_letters():
    assert host_name("[FE80::1]:80") == "fe80::1"
    assert host_name("A:80:90") == "a"
