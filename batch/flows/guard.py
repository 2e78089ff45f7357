"""End a process group when its leader ends: `python -I -S guard.py GROUP`, leader at our stdin.

`serve` holds the other end of our stdin and never writes. However it ends, SIGKILL included, the
kernel closes that end; then whatever it started and left behind (flow runs) is killed. A killed
platform so leaves no flow run that works on unsupervised. In a session of its own, so that
nothing which ends the group ends the guard first. Standard library only: it starts in 20 ms.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress


def start_guard() -> subprocess.Popen[bytes] | None:
    """Guard our own group; None if we do not lead one: it then holds processes of others.

    Keep the result: the guard acts when its stdin is closed, on us as well if we still run.
    """
    group = os.getpid()
    if os.getpgid(0) != group:
        return None
    return subprocess.Popen(  # noqa: S603  # nosec B603: our own script
        [sys.executable, "-I", "-S", __file__, str(group)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def main(group: int) -> None:
    """Wait for the end of the leader, then end its group."""
    sys.stdin.buffer.read()
    with suppress(ProcessLookupError):  # the usual end: nobody is left
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
