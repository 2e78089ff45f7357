"""Which addresses may be asked: https to hosts of the public internet, nothing else unless said.

An address that somebody hands us (an RSS feed, a redirect, a name that resolves anew) must not
make us ask this machine, its network, or a cloud's metadata service for them. So: https only,
hosts from a list where they are known, and for those that users choose every address that the
name resolves to is looked at before each request. A name that resolves elsewhere a moment later
(DNS rebinding) meets TLS: whoever answers there needs a certificate for the name. Redirects are
never followed. Exceptions are said by name: hosts of a company's own network, or this machine in
tests.
Not here: fetching.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from stream.errors import ConfigError, StoreUnavailableError

THIS_MACHINE = ("127.0.0.1", "::1", "localhost")

_NAT64 = IPv6Network("64:ff9b::/96")

Resolve = Callable[[str, int], Sequence[str]]
"""The IP addresses of a host name. Raises: OSError."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also inside other notations.

    >>> is_public("93.184.215.14"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = _embedded(found)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a mapped, 6to4 or NAT64 one leads to."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def is_allowed_by_name(
    url: str, *, scheme: str = "https", hosts: Collection[str] | None, private: Collection[str] = ()
) -> bool:
    """Whether an address may be asked, as far as its text tells.

    Args: scheme: the one that is encrypted. hosts: all that are allowed; None: any public one.
    private: hosts that may also be private, without TLS.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if host in private:
        return parts.scheme in {scheme, scheme.removesuffix("s")}
    is_known = _may_be_public(host) if hosts is None else host in hosts
    return is_known and parts.scheme == scheme


def _may_be_public(host: str) -> bool:
    try:
        return is_public(host)
    except ValueError:  # a name: judged when it is resolved
        return "." in host.rstrip(".")


async def check_resolved(
    where: str, url: str, private: Collection[str] = (), resolve: Resolve | None = None
) -> None:
    """Look where a host leads now. Behind a proxy it is the proxy that resolves, and that is the
    one to restrict what may be asked.

    Raises: ConfigError if any of its addresses is not public, StoreUnavailableError if it has none
    at the moment.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    if host in private or _has_proxy(host):
        return
    try:
        found = await asyncio.to_thread(resolve or resolve_host, host, port)
    except OSError as error:
        raise StoreUnavailableError(f"no address for {host} ({error.strerror})") from None
    inside = [address for address in found if not is_public(address)]
    if inside or not found:
        raise ConfigError(
            f"{where}: {host} leads to {', '.join(inside) or 'no address'}, which is not of the "
            "public internet: refused. If it is meant, name the host in "
            "HEADRACE_NEWS_PRIVATE_HOSTS."
        )


def _has_proxy(host: str) -> bool:
    """Whether HTTP clients ask this host through a proxy of the environment."""
    return bool({"https", "all"} & getproxies().keys()) and not proxy_bypass(host)


def resolve_host(host: str, port: int) -> list[str]:
    """By the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]
