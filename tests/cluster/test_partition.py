"""Two hosts (network namespaces) that can reach the lake but not each other any more."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_socket import socket_allow_hosts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IP = shutil.which("ip")
LAKE, HOSTS = "10.213.77.1", ("10.213.77.2", "10.213.77.3")
PEERS = ("10.213.78.2", "10.213.78.3")


@dataclass(frozen=True)
class Network:
    """Two namespaces: a link from each to this machine, and one between them."""

    names: tuple[str, str]

    def inside(self, index: int) -> list[str]:
        """What runs a command in one."""
        return [str(IP), "netns", "exec", self.names[index]]

    def cut(self) -> None:
        """No packet goes from one to the other; nobody is told."""
        self._peers("down")

    def heal(self) -> None:
        self._peers("up")

    def _peers(self, state: str) -> None:
        _ip("-n", self.names[1], "link", "set", "peer", state)


@pytest.fixture
def network() -> Iterator[Network]:
    """Skips where nobody may make one (not root, not Linux, a container without the right)."""
    if IP is None or os.geteuid() != 0:
        pytest.skip("needs root and iproute2")
    tag = f"hr{os.getpid() % 100_000}"
    names = (f"{tag}a", f"{tag}b")
    try:
        try:
            _build(tag, names)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"cannot make network namespaces: {error.stderr.decode().strip()}")
        socket_allow_hosts(["127.0.0.1", "::1", "localhost", LAKE], allow_unix_socket=True)
        yield Network(names)
    finally:
        for command in (
            ["netns", "del", names[0]],
            ["netns", "del", names[1]],
            ["link", "del", tag],
        ):
            subprocess.run([IP, *command], check=False, capture_output=True)


@pytest.fixture
def host(network: Network) -> str:
    """The emulator listens where both namespaces reach it."""
    return LAKE


def test_hosts_cut_off_from_each_other_both_leave_and_go_on_when_healed(
    network: Network, platform: Any, load: Any
) -> None:
    one, two = _start(network, platform, stall_seconds=15)
    one.commits_again()
    network.cut()
    assert [p.process.wait(200) for p in (one, two)] == [1, 1], one.words() + two.words()
    for process in (one, two):
        assert "no epoch ended" in process.words() or "lost another" in process.words()
    network.heal()
    one, two = _start(network, platform, stall_seconds=200)
    one.commits_again()
    expected = load.finish()
    one.has_rows(expected.num_rows)
    assert platform.stop_all(one, two) == [0, 0], one.words() + two.words()
    platform.check_all(expected)


def _start(network: Network, platform: Any, stall_seconds: int) -> list[Any]:
    """One process a host; waits until they have met."""
    found = [
        platform.run(
            *("--process-index", str(index), "--addresses", ",".join(f"{p}:2101" for p in PEERS)),
            before=network.inside(index),
            HEADRACE_STALL_SECONDS=str(stall_seconds),
        )
        for index in (0, 1)
    ]
    for process in found:
        process.says("opened in lane")
    return found


def _build(tag: str, names: tuple[str, str]) -> None:
    _ip("link", "add", tag, "type", "bridge")
    _ip("addr", "add", f"{LAKE}/24", "dev", tag)
    _ip("link", "set", tag, "up")
    for index, name in enumerate(names):
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", f"{tag}{index}", "type", "veth", "peer", "name", "lake", "netns", name)
        _ip("link", "set", f"{tag}{index}", "master", tag, "up")
        _ip("-n", name, "addr", "add", f"{HOSTS[index]}/24", "dev", "lake")
        _ip("-n", name, "link", "set", "lake", "up")
    one, two = names
    _ip("-n", one, "link", "add", "peer", "type", "veth", "peer", "name", "peer", "netns", two)
    for index, name in enumerate(names):
        _ip("-n", name, "addr", "add", f"{PEERS[index]}/24", "dev", "peer")
        _ip("-n", name, "link", "set", "peer", "up")


def _ip(*arguments: str) -> None:
    subprocess.run([str(IP), *arguments], check=True, capture_output=True)
