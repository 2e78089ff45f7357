"""What the command line says when something goes wrong, and with which exit code.

    2    usage: wrong argument, wrong setting (ConfigError)
    1    failed: every other error
    130  interrupted: silent, as is a reader of our output that went away (1)

Tracebacks are for developers: `HEADRACE_LOG_LEVEL=DEBUG` shows them.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from stream.errors import ConfigError, PipelineError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

DISK_ADVICE = {
    errno.ENOSPC: "the disk is full; free space and start again, nothing committed is lost",
    errno.EDQUOT: "the disk quota is used up; free space and start again",
    errno.EROFS: "the folder is read-only; choose another HEADRACE_HOME",
    errno.EACCES: "permission denied; choose another HEADRACE_HOME or change its owner",
}
MEMORY_ADVICE = (
    "give the process more (a dataflow needs 512 MB) and start it again, nothing committed is lost"
)
THREAD_ADVICE = (
    "memory or the number of processes (`ulimit -u`, a container's pids limit) is used up; raise "
    "it and start again, nothing committed is lost"
)


def run_command(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn whatever it raises into a message and an exit code."""
    try:
        code = command.main(arguments, prog_name="headrace", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as exit_request:
        return exit_request.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        _drop_output()
        return FAILED
    except PipelineError as error:
        return report(error)
    except OSError as error:
        return report(error)
    except Exception as error:  # noqa: BLE001 - the last frame: shown, and the exit code says it
        return report(error)
    return code if isinstance(code, int) else OK


def report(error: BaseException) -> int:
    """Print an error to stderr; returns the exit code that belongs to it."""
    click.secho(f"headrace: {describe(error)}", err=True, fg="red" if _is_terminal() else None)
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    return USAGE if isinstance(error, ConfigError) else FAILED


def describe(error: BaseException) -> str:
    """One block for a person: what happened and what to do.

    >>> describe(ConfigError("no feed 'x'; feeds are: news"))
    "no feed 'x'; feeds are: news"
    """
    if isinstance(error, PipelineError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno in DISK_ADVICE:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{DISK_ADVICE[error.errno]}"
    if _lacks_memory(error):
        return f"out of memory{_place(error)}: {MEMORY_ADVICE}"
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return f"no thread could be started{_place(error)}: {THREAD_ADVICE}"
    first_line = str(error).strip().partition("\n")[0]
    return (
        f"unexpected {type(error).__name__}: {first_line}{_place(error)} "
        "(a defect of headrace; HEADRACE_LOG_LEVEL=DEBUG shows the traceback)"
    )


def _lacks_memory(error: BaseException) -> bool:
    """Some library says it in its own words, or hides it behind an error of its own.

    >>> _lacks_memory(MemoryError()), _lacks_memory(ValueError("memory"))
    (True, False)
    """
    cause = error.__cause__ or error.__context__
    return (
        isinstance(error, MemoryError)  # pyarrow's and numpy's are among them
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (cause is not None and _lacks_memory(cause))
    )


def _place(error: BaseException) -> str:
    """The innermost line of ours that was running."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_ours(frame)]
    return f", {Path(ours[-1].filename).name} line {ours[-1].lineno}" if ours else ""


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename).is_relative_to(Path(__file__).parents[1])


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def _drop_output() -> None:
    # Python flushes stdout once more at exit and would complain about the closed pipe there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
