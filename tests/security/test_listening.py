"""A running platform: every process listens on loopback alone and holds no needless secret.

Read from the kernel (/proc), not from our own settings.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from stream.local.state import read_state
from stream.settings import Settings

reads_proc = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who listens")


def listening_of(pid):
    """The addresses on which a process listens, as the kernel tells."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(_address(fields[1].partition(":")[0]))
    return found


def _address(text):
    """The kernel writes 32-bit words in the machine's order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return str(ip_address(b"".join(words)))


def children_of(pid):
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    direct = [int(child) for child in listing.read_text().split()]
    return [p for child in direct for p in (child, *children_of(child))]


@reads_proc
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_listening_address_is_read_from_the_kernel(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        assert address in listening_of(os.getpid())


def test_default_of_the_metrics_address_is_loopback():
    assert ip_address(Settings().metrics_host).is_loopback


@reads_proc
@pytest.mark.slow
def test_running_platform_listens_on_loopback_and_its_processes_hold_no_needless_secret(
    planted, home
):
    environment = {
        **{name: value for name, value in os.environ.items() if name != "HEADRACE_LAKE"},
        "HEADRACE_SHARDS": "1",
        "HEADRACE_METRICS_PORT": "0",
    }

    def headrace(verb, *arguments):
        command = [sys.executable, "-m", "stream.cli", verb, *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=90
        )

    try:
        started = headrace("up", "trades")
        assert started.returncode == 0, started.stderr
        state = read_state(home)
        by_name = {process.name: process.process.pid for process in state.processes}
        everyone = {state.supervisor.pid, *children_of(state.supervisor.pid)}
        assert set(by_name.values()) <= everyone
        deadline = time.monotonic() + 30  # metrics are served once the dataflow is set up
        while not listening_of(by_name["trades"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert listening_of(by_name["trades"]) == ["127.0.0.1"]
        addresses = {pid: listening_of(pid) for pid in everyone}
        assert addresses[by_name["aws"]] == ["127.0.0.1"]
        assert {a for found in addresses.values() for a in found} == {"127.0.0.1"}
        ours = {value for name, value in planted.items() if name.startswith("HEADRACE_")}
        for name in ("aws", "trades"):
            variables = Path(f"/proc/{by_name[name]}/environ").read_text()
            assert not [secret for secret in ours if secret in variables], name
        emulator = Path(f"/proc/{by_name['aws']}/environ").read_text()
        assert planted["AWS_SECRET_ACCESS_KEY"] not in emulator
    finally:
        headrace("down")
