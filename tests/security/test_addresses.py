"""Where we may be sent: hosts, schemes, redirects and names that resolve elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from batch.extracts.fmp import FmpExtractor
from batch.extracts.http import CallRule, JsonClient
from stream.clock import ManualClock
from stream.errors import ConfigError, StoreUnavailableError
from stream.producers.address import check_resolved, is_public
from stream.producers.news import NewsSource, PollRule
from stream.producers.news_source import FmpNews, RssNews
from stream.producers.venue import VenueSource
from stream.producers.venue_protocol import VENUES

HERE = ("127.0.0.1",)
QUICK = PollRule(interval_seconds=0.01, min_gap_seconds=0, backoff_seconds=0.01)
INSIDE = {
    "metadata": "169.254.169.254",
    "metadata of tasks": "169.254.170.2",
    "metadata by IPv6": "fd00:ec2::254",
    "this machine": "127.0.0.1",
    "this machine by IPv6": "::1",
    "any": "0.0.0.0",
    "private 10": "10.1.2.3",
    "private 172": "172.16.0.9",
    "private 192": "192.168.0.1",
    "carrier": "100.64.0.1",
    "link-local": "fe80::1",
    "mapped": "::ffff:169.254.169.254",
    "6to4": "2002:a9fe:a9fe::1",
    "NAT64": "64:ff9b::a9fe:a9fe",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def first_batch(feed, folder, seconds=5.0):
    """What a source gives first; raises what it raises."""

    async def scenario():
        source = NewsSource(feed, folder / "cursor.json", rule=QUICK)
        async with asyncio.timeout(seconds), contextlib.aclosing(source.batches()) as batches:
            return await anext(batches)

    return asyncio.run(scenario())


@pytest.mark.parametrize("name", INSIDE)
def test_address_of_this_machine_its_network_or_a_cloud_is_not_public(name):
    assert not is_public(INSIDE[name])


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "8.8.8.8"])
def test_address_of_the_internet_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://{f'[{a}]' if ':' in a else a}/latest/meta-data" for a in INSIDE.values()),
        *("http://feeds.example.com/rss", "file:///etc/passwd", "ftp://feeds.example.com/x"),
        *("https://localhost/rss", "https://metadata/x", "https://2130706433/", "https:///x"),
        *("https://feeds.example.com:99999/", "gopher://feeds.example.com", "", "//x.example"),
    ],
)
def test_rss_address_that_is_not_public_and_encrypted_is_refused_and_not_shown(url):
    with pytest.raises(ConfigError, match="public internet") as raised:
        RssNews(url)
    assert not url or url not in str(raised.value)


def test_rss_address_of_the_internet_is_taken():
    assert RssNews("https://feeds.example.com/rss?token=x").name == "feeds.example.com"


@pytest.mark.parametrize("name", INSIDE)
def test_name_that_leads_inside_is_refused(name):
    def resolve(host, port):
        return ["93.184.215.14", INSIDE[name]]

    with pytest.raises(ConfigError, match=r"x\.example leads to .*refused.*PRIVATE_HOSTS"):
        asyncio.run(check_resolved("news", "https://x.example/rss", resolve=resolve))


def test_name_that_is_this_machine_in_disguise_is_refused_before_any_connection(serve, tmp_path):
    server = serve(b"")
    with pytest.raises(ConfigError, match=r"127\.1 leads to 127\.0\.0\.1"):
        first_batch(RssNews(f"https://127.1:{server.port}/rss"), tmp_path)
    assert server.asked == []


def test_name_that_does_not_resolve_is_tried_again():
    def resolve(host, port):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    with pytest.raises(StoreUnavailableError, match=r"no address for x\.example"):
        asyncio.run(check_resolved("news", "https://x.example/rss", resolve=resolve))


def test_name_behind_a_proxy_is_the_proxys_to_resolve(monkeypatch):
    def resolve(host, port):
        return ["10.0.0.1"]

    look = check_resolved("news", "https://x.example/rss", resolve=resolve)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    asyncio.run(look)
    monkeypatch.setenv("NO_PROXY", "x.example")
    with pytest.raises(ConfigError, match=r"leads to 10\.0\.0\.1"):
        asyncio.run(check_resolved("news", "https://x.example/rss", resolve=resolve))


def test_private_host_that_is_named_is_asked(serve, answer, tmp_path):
    server = serve(answer(b"<rss><channel><item><guid>1</guid></item></channel></rss>"))
    feed = RssNews(f"http://127.0.0.1:{server.port}/rss", private_hosts=HERE)
    assert len(first_batch(feed, tmp_path)) == 1


@pytest.fixture
def foreign_tls(tmp_path):
    """TLS of a server inside that has a certificate, but for another name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "inside.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "inside.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_name_that_is_rebound_after_the_check_meets_tls_and_nothing_is_asked(
    serve, answer, tmp_path, monkeypatch, foreign_tls
):
    """DNS says a public address when we look and 127.0.0.1 when the connection is made."""
    server = serve(answer(b"<rss></rss>"), context=foreign_tls)
    real, looked = socket.getaddrinfo, []

    def rebinding(host, port, *args, **kwargs):
        if host not in ("feed.example", b"feed.example"):
            return real(host, port, *args, **kwargs)
        looked.append(host)
        address = "93.184.215.14" if len(looked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with pytest.raises(ConfigError, match=r"feed\.example leads to 127\.0\.0\.1"):
        # The first poll passes the look and fails at TLS; the second one sees where it leads.
        first_batch(RssNews(f"https://feed.example:{server.port}/rss"), tmp_path)
    assert len(looked) == 3  # looked, connected, looked
    assert server.asked == []


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 T", "308 P"])
def test_redirect_of_fmp_is_refused_and_the_other_server_is_never_asked(serve, answer, status):
    other = serve(answer(b"[]"))
    to = f"http://127.0.0.1:{other.port}/stolen"
    server = serve(answer(status=status, Location=to))
    client = JsonClient(
        "FMP",
        f"http://127.0.0.1:{server.port}/stable",
        hosts=(),
        key_header="apikey",
        api_key=SecretStr("k"),
        rule=CallRule(attempts=1),
        clock=ManualClock(),
    )
    with client, pytest.raises(ConfigError, match=r"to 127\.0\.0\.1; redirects are not followed"):
        client.get("profile", {}, lambda value: None)
    assert (len(server.asked), other.asked) == (1, [])


def test_redirect_of_a_news_feed_is_not_followed(serve, answer, tmp_path, caplog):
    other = serve(answer(b"<rss></rss>"))
    server = serve(answer(status="302 Found", Location=f"http://127.0.0.1:{other.port}/"))
    feed = RssNews(f"http://127.0.0.1:{server.port}/rss", private_hosts=HERE)
    with pytest.raises(TimeoutError):
        first_batch(feed, tmp_path, seconds=0.5)
    assert len(server.asked) >= 1
    assert other.asked == []
    assert "redirects are not followed" in caplog.text


def test_redirect_of_a_venue_is_refused_and_the_other_server_is_never_asked(serve, answer):
    other = serve(answer())
    server = serve(answer(status="302 Found", Location=f"ws://127.0.0.1:{other.port}/"))
    source = VenueSource(
        VENUES["kraken"], "trades", ["BTC/USD"], url=f"ws://127.0.0.1:{server.port}/"
    )

    async def first():
        async with asyncio.timeout(5), contextlib.aclosing(source.batches()) as batches:
            return await anext(batches)

    with pytest.raises(ConfigError, match=r"302 to 127\.0\.0\.1; redirects are not followed"):
        asyncio.run(first())
    assert (len(server.asked), other.asked) == (1, [])


@pytest.mark.parametrize(
    "url",
    [
        *("https://evil.example/stable", "https://financialmodelingprep.com.evil.example/stable"),
        *("http://financialmodelingprep.com/stable", "https://169.254.169.254/stable"),
        "https://financialmodelingprep.com@evil.example/stable",
    ],
)
def test_fmp_key_goes_to_fmp_alone(url):
    with pytest.raises(ConfigError, match=r"https://host/path of financialmodelingprep\.com"):
        FmpExtractor(SecretStr("k"), base_url=url)
    with pytest.raises(ConfigError, match=r"https:// and financialmodelingprep\.com"):
        FmpNews(SecretStr("k"), ["AAPL"], url=url)


@pytest.mark.parametrize("url", ["ws://evil.example/", "wss://10.0.0.1/", "https://x.example/"])
def test_venue_address_is_public_and_encrypted(url):
    with pytest.raises(ConfigError, match="wss:// and a public host"):
        VenueSource(VENUES["kraken"], "trades", ["BTC/USD"], url=url)
    for venue in VENUES.values():
        assert venue.url.startswith("wss://")
