"""The image, really built, and a container of it made from namespaces: no engine is needed.

A container here is process 1 of its own process and mount namespace, on the image's file system
mounted read-only, as the image's user, with no capability and no new privileges; only /tmp and the
lake's folder take files. That is what the task definitions and docker-compose.yml ask for.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("buildah", "debootstrap", "unshare", "setpriv", "ip")
ENTER = """
set -eu
root=$1 data=$2 net=$3; shift 3
touch "$root/etc/hosts"
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$data" "$root/data/headrace"
mount --bind /etc/hosts "$root/etc/hosts"
[ "$net" = host ] || ip link set lo up
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What `deploy/test-image build` left in a folder."""

    folder: Path
    config: dict[str, Any]
    figures: dict[str, int]

    @property
    def root(self) -> Path:
        return (self.folder / "rootfs").resolve()

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.config["Env"])

    def command(
        self, data: Path, *arguments: str, entry: list[str] | None, env: Mapping[str, str], net: str
    ) -> list[str]:
        """The command that becomes process 1 of a container."""
        user, group = self.config["User"].split(":")
        os.chown(data, int(user), int(group))
        apart = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
        network = [] if net == "host" else ["--net"]
        drop = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        variables = {**self.environment, **env}
        return [
            *(*apart, *network, "sh", "-c", ENTER, "enter", str(self.root), str(data), net),
            *("setpriv", f"--reuid={user}", f"--regid={group}", *drop),
            *("env", "-i", f"--chdir={self.config['WorkingDir']}"),
            *(f"{name}={value}" for name, value in variables.items()),
            *(self.config["Entrypoint"] if entry is None else entry),
            *arguments,
        ]

    def run(
        self,
        data: Path,
        *arguments: str,
        entry: list[str] | None = None,
        env: Mapping[str, str] = {},
        net: str = "none",
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        command = self.command(data, *arguments, entry=entry, env=env, net=net)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    @contextmanager
    def start(
        self,
        data: Path,
        *arguments: str,
        entry: list[str] | None = None,
        env: Mapping[str, str] = {},
    ) -> Iterator[Container]:
        """Run in the background on this machine's network; killed at the end of the block."""
        command = self.command(data, *arguments, entry=entry, env=env, net="host")
        output = data.with_name(f"{data.name}.log")
        with (
            output.open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
        ):
            container = Container(process, output)
            try:
                yield container
            finally:
                # Not `unshare` alone: what it asked the kernel to do to its child is forgotten when
                # that one changes its user.
                if process.poll() is None:
                    container.signal(signal.SIGKILL)
                process.wait(timeout=60)
                assert not container.left(), "process 1 takes everything else with it"


@dataclass(frozen=True, slots=True)
class Container:
    """A container that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    def signal(self, number: int) -> None:
        """Send a signal to process 1."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(child), number)

    def left(self) -> list[str]:
        """Processes that still write to its log."""
        folders = Path("/proc").glob("[0-9]*")
        return [str(folder) for folder in folders if _writes(folder, self.log)]

    def wait_for(self, is_ready: Any, seconds: float = 180) -> None:
        """Wait until something holds, or fail with the container's words."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            said = self.log.read_text(errors="replace")[-3_000:]
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {said}"
            assert time.monotonic() < deadline, f"not ready within {seconds} s: {said}"
            time.sleep(0.2)


def _writes(folder: Path, log: Path) -> bool:
    try:
        return (folder / "fd/1").readlink() == log
    except OSError:  # ended meanwhile
        return False


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        pytest.skip(
            f"the image is not built here: {', '.join(missing) or 'not root'}; as root, "
            "apt-get install buildah debootstrap iproute2"
        )
    folder = tmp_path_factory.mktemp("image")
    script = [str(ROOT / "deploy/test-image")]
    try:
        built = subprocess.run(
            [*script, "build", folder], capture_output=True, text=True, check=False
        )
        assert built.returncode == 0, f"{shlex.join(script)}: {built.stderr[-3_000:]}"
        config = json.loads((folder / "config.json").read_text())["OCIv1"]["config"]
        yield Image(folder, config, json.loads((folder / "figures.json").read_text()))
    finally:
        subprocess.run([*script, "clean", folder], check=False, capture_output=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The volume of one container."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder
