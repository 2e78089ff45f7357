"""Run a command that dies with its parent: `python -I -S tether.py PARENT_PID COMMAND...`.

Asks the Linux kernel for SIGKILL when the parent ends, however it ends, then becomes the command
(same process id). Everything started this way is safe to kill at any moment, so there is no
gentler signal to lose time with. A script of its own because code between fork and exec
(`preexec_fn`) can deadlock in a threaded parent. Elsewhere than on Linux it only becomes the
command; `platform.up` then ends what a killed supervisor left behind.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the command."""
    parent, command = int(arguments[0]), arguments[1:]
    # A parent that waits for its signals in a thread blocks them; a blocked mask is inherited
    # and would make this child deaf to SIGTERM.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only this platform has it all

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the request above: nobody will tell us
            raise SystemExit(1)
    os.execv(command[0], command)  # noqa: S606  # nosec B606: the command comes from our own parent


if __name__ == "__main__":
    main(sys.argv[1:])
