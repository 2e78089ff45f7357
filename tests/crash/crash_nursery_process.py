"""The nursery of `crash_nursery` itself, a script: it imports everything once, then forks."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from crash_mutants import MUTANTS

import batch.actions  # noqa: F401 - imported for the children, as the next two
import stream.live
import stream.observe  # noqa: F401
from batch.cli import main
from stream.clock import SystemClock


def run_nursery() -> None:
    """Be the nursery until stdin ends and the last child has: one line of JSON per event."""
    living: dict[int, int] = {}
    born = 0
    is_open = True
    while is_open or living:
        if is_open and select.select([0], [], [], 0.02)[0]:
            line = sys.stdin.readline()
            is_open = bool(line)
            if line:
                wanted = json.loads(line)
                if not (pid := os.fork()):
                    _become(wanted)
                    _live_before(wanted["behind_seconds"])
                    if wanted["mutant"]:
                        MUTANTS[wanted["mutant"]]()
                    _run_to_the_end(main, wanted["arguments"])
                living[pid] = born
                born += 1
                _tell(born=pid)
        elif not is_open:
            time.sleep(0.02)
        for pid in list(living):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                _tell(ended=living.pop(pid), code=os.waitstatus_to_exitcode(status))


def _run_to_the_end(main: Callable[[list[str]], object], arguments: list[str]) -> NoReturn:
    """Be the verb, then end at once: destructors of libraries would wait for threads that only
    the nursery has."""
    code: object = 1
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _become(wanted: dict[str, object]) -> None:
    output = os.open(str(wanted["log"]), os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(wanted["env"])  # type: ignore[arg-type]
    random.seed()
    faulthandler.register(signal.SIGUSR1)  # to say where it hangs


def _live_before(seconds: int) -> None:
    """Let the platform's only wall clock show an earlier time."""
    SystemClock.now_ns = lambda _: time.time_ns() - seconds * 10**9  # type: ignore[method-assign]


def _tell(**event: int) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run_nursery()
