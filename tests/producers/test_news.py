"""News polling against a server that limits, breaks and lies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

import orjson
import pytest
from pydantic import SecretStr

from stream.errors import ConfigError
from stream.producers.news import NewsSource, PollRule
from stream.producers.news_source import FmpNews, RssNews

pytestmark = pytest.mark.enable_socket

QUICK = PollRule(interval_seconds=0.01, min_gap_seconds=0.0, backoff_seconds=0.01)
KEY = "s3cr3t-key"
HERE = ("127.0.0.1",)


def story(n: int, **changes):
    return {
        "symbol": "AAPL",
        "publishedDate": f"2026-11-{n:02d} 10:00:00",
        "publisher": "Wire",
        "title": f"Story {n}",
        "image": None,
        "site": "wire.example",
        "text": "Text — with ünicode",
        "url": f"https://wire.example/{n}",
        **changes,
    }


def fmp(server, page_items=50):
    return FmpNews(SecretStr(KEY), ["AAPL", "MSFT"], url=server.url, page_items=page_items)


def poll(feed, folder, *, until, rule=QUICK, commit=True):
    """Run a source until `until(source, stories)`; at most 5 s."""

    async def scenario():
        source = NewsSource(feed, folder / "cursor.json", rule=rule, jitter=random.Random(1))
        got = []

        async def collect():
            async with contextlib.aclosing(source.batches()) as batches:
                async for batch in batches:
                    got.extend(line for _, line in batch)
                    if commit:
                        source.commit()

        task = asyncio.create_task(collect())
        async with asyncio.timeout(5):
            while not until(source, got) and not task.done():
                await asyncio.sleep(0.005)
        if task.done():
            task.result()
        task.cancel()
        await asyncio.wait([task])
        if commit:
            source.commit()
        return source, got

    return asyncio.run(scenario())


def test_news_items_leave_oldest_first_with_the_values_of_the_source(news_server, reply, tmp_path):
    stories = [story(3), story(2), story(1)]
    news_server.replies = [reply(body=orjson.dumps(stories, option=orjson.OPT_INDENT_2))]
    _, got = poll(fmp(news_server), tmp_path, until=lambda source, got: source.stats.requests > 2)
    assert got == [orjson.dumps(item) for item in reversed(stories)]


def test_news_unchanged_answer_costs_a_304_and_the_validators_are_sent(
    news_server, reply, tmp_path
):
    body = orjson.dumps([story(1)])
    headers = {"ETag": '"v1"', "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT"}
    news_server.replies = [reply(body=body, headers=headers), reply(304)]
    source, got = poll(
        fmp(news_server), tmp_path, until=lambda source, got: source.stats.not_modified > 2
    )
    assert len(got) == 1
    sent = news_server.requests[1][1]
    assert sent["If-None-Match"] == '"v1"'
    assert sent["If-Modified-Since"] == headers["Last-Modified"]
    assert "If-None-Match" not in news_server.requests[0][1]
    assert source.stats.errors == 0


def test_news_after_restart_old_items_do_not_come_again(news_server, reply, tmp_path):
    news_server.replies = [reply(body=orjson.dumps([story(2), story(1)]))]
    _, first = poll(fmp(news_server), tmp_path, until=lambda source, got: got)
    news_server.replies = [reply(body=orjson.dumps([story(3), story(2), story(1)]))]
    _, second = poll(fmp(news_server), tmp_path, until=lambda source, got: got)
    assert len(first) == 2
    assert [orjson.loads(line)["title"] for line in second] == ["Story 3"]
    assert "from=2026-11-02" in news_server.requests[-1][0]


def test_news_crash_before_commit_hands_items_out_again(news_server, reply, tmp_path):
    news_server.replies = [reply(body=orjson.dumps([story(1)]))]
    _, first = poll(fmp(news_server), tmp_path, until=lambda source, got: got, commit=False)
    _, second = poll(fmp(news_server), tmp_path, until=lambda source, got: got)
    assert first == second


def test_news_changed_story_under_the_same_address_comes_again(news_server, reply, tmp_path):
    news_server.replies = [
        reply(body=orjson.dumps([story(1)])),
        reply(body=orjson.dumps([story(1, title="Corrected")])),
    ]
    _, got = poll(fmp(news_server), tmp_path, until=lambda source, got: len(got) > 1)
    assert orjson.loads(got[1])["title"] == "Corrected"


def test_news_retry_after_is_obeyed(news_server, reply, tmp_path):
    news_server.replies = [
        reply(429, headers={"Retry-After": "1"}),
        reply(body=orjson.dumps([story(1)])),
    ]
    early, _ = poll(fmp(news_server), tmp_path, until=lambda source, got: source.stats.errors == 1)
    assert early.stats.requests == 1
    loop = asyncio.new_event_loop()
    begin = loop.time()
    news_server.requests.clear()
    _, got = poll(fmp(news_server), tmp_path, until=lambda source, got: got)
    assert loop.time() - begin >= 1.0
    loop.close()
    assert len(got) == 1


def test_news_broken_answers_are_survived_and_nothing_is_lost(news_server, reply, tmp_path, caplog):
    good = orjson.dumps([story(2), story(1)])
    news_server.replies = [
        reply(500, b"oops"),
        reply(body=b"<html>maintenance</html>"),
        reply(body=good, cut=True),
        reply(body=b'{"unexpected":"shape"}'),
        reply(body=b"[1, 2]"),
        reply(503),
        reply(302, headers={"Location": "http://127.0.0.1:1/"}),
        reply(body=good),
    ]
    with caplog.at_level(logging.DEBUG):
        source, got = poll(fmp(news_server), tmp_path, until=lambda source, got: got)
    assert len(got) == 2
    assert source.stats.errors == 7
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, b""), (403, b""), (200, b'{"Error Message":"Invalid API KEY s3cr3t-key given"}')],
)
def test_news_refused_key_is_a_config_error_without_the_key(
    news_server, reply, tmp_path, status, body
):
    news_server.replies = [reply(status, body)]
    with pytest.raises(ConfigError) as caught:
        poll(fmp(news_server), tmp_path, until=lambda source, got: False)
    assert KEY not in str(caught.value)
    assert KEY not in news_server.requests[0][0]
    assert news_server.requests[0][1]["apikey"] == KEY


def test_news_after_a_pause_pages_are_read_back_to_the_known(news_server, reply, tmp_path):
    news_server.replies = [reply(body=orjson.dumps([story(1)]))]
    poll(fmp(news_server, 2), tmp_path, until=lambda source, got: got)
    news_server.requests.clear()
    news_server.replies = [
        reply(body=orjson.dumps([story(5), story(4)])),
        reply(body=orjson.dumps([story(3), story(2)])),
        reply(body=orjson.dumps([story(1)])),
        reply(304),
    ]
    _, got = poll(fmp(news_server, 2), tmp_path, until=lambda source, got: got)
    assert [orjson.loads(line)["title"][-1] for line in got] == ["2", "3", "4", "5"]


RSS = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>T</title>
<item><title>Two &amp; a half</title><link>https://e.example/2</link><guid>2</guid>
<description><![CDATA[<p>Hi</p>]]></description><pubDate>Mon, 23 Nov 2026 10:00:00 GMT</pubDate>
<category>a</category><category>b</category></item>
<item><title>One</title><guid>1</guid></item></channel></rss>"""


def test_news_rss_items_are_published_with_the_fields_of_a_story(news_server, reply, tmp_path):
    news_server.replies = [reply(body=RSS)]
    _, got = poll(
        RssNews(news_server.url, private_hosts=HERE), tmp_path, until=lambda source, got: got
    )
    assert [orjson.loads(line) for line in got] == [
        {
            "source": "127.0.0.1",
            "guid": "1",
            "link": None,
            "title": "One",
            "description": None,
            "pubDate": None,
            "category": None,
            "author": None,
        },
        {
            "source": "127.0.0.1",
            "guid": "2",
            "link": "https://e.example/2",
            "title": "Two & a half",
            "description": "<p>Hi</p>",
            "pubDate": "Mon, 23 Nov 2026 10:00:00 GMT",
            "category": "a,b",
            "author": None,
        },
    ]


def test_news_rss_hostile_xml_is_refused_and_polling_goes_on(news_server, reply, tmp_path):
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><rss>&b;</rss>'
    outside = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><rss>&a;</rss>'
    deep = b"<rss>" + b"<a>" * 100_000
    news_server.replies = [
        reply(body=bomb),
        reply(body=outside),
        reply(body=deep),
        reply(body=b"<html></html>"),
        reply(body=RSS[:-20]),
        reply(body=RSS),
    ]
    source, got = poll(
        RssNews(news_server.url, private_hosts=HERE), tmp_path, until=lambda source, got: got
    )
    assert source.stats.errors == 5
    assert len(got) == 2


def test_news_damaged_cursor_file_starts_over(news_server, reply, tmp_path):
    (tmp_path / "cursor.json").write_text('{"seen": 3')
    news_server.replies = [reply(body=orjson.dumps([story(1)]))]
    _, got = poll(fmp(news_server), tmp_path, until=lambda source, got: got)
    assert len(got) == 1


def test_news_token_in_an_rss_address_is_in_no_log_line(news_server, reply, tmp_path, caplog):
    news_server.replies = [reply(500), reply(body=RSS, cut=True), reply(body=RSS)]
    feed = RssNews(f"{news_server.url}?token={KEY}", private_hosts=HERE)
    with caplog.at_level(logging.INFO):
        _, got = poll(feed, tmp_path, until=lambda source, got: got)
    assert len(got) == 2
    assert KEY in news_server.requests[0][0]
    assert KEY not in caplog.text


def test_news_without_key_or_symbols_is_a_config_error():
    with pytest.raises(ConfigError, match="HEADRACE_FMP_API_KEY"):
        FmpNews(None, ["AAPL"])
    with pytest.raises(ConfigError, match="symbol"):
        FmpNews(SecretStr("x"), [])
