"""What it means when the catalog or its files do not answer: `aws_faults` for pyiceberg."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.exceptions import CommitStateUnknownException
from sqlalchemy.exc import OperationalError

from stream.errors import ConfigError, StoreUnavailableError


@contextmanager
def reachable(what: str) -> Iterator[None]:
    """Say in one line that the catalog or its files did not answer, and what to do."""
    try:
        yield
    except OperationalError as error:
        raise StoreUnavailableError(f"cannot {what}: {error.orig}{_advice(error)}") from error
    except (OSError, CommitStateUnknownException) as error:
        if "ACCESS_DENIED" in str(error):
            raise ConfigError(
                f"cannot {what}: permission denied. Let this role read and write there: {error}"
            ) from error
        if "NO_SUCH_BUCKET" in str(error):
            raise ConfigError(
                f"cannot {what}: the lake's bucket does not exist. `headrace up` creates it; or "
                f"correct HEADRACE_LAKE: {error}"
            ) from error
        raise StoreUnavailableError(f"cannot {what}: {error}{_advice(error)}") from error


def _advice(error: Exception) -> str:
    found = (advice for sign, advice in _DISK_SIGNS.items() if sign in str(error))
    return next(found, "")


_FULL = ". Free space and start again; nothing that was committed is lost."
_DISK_SIGNS = {
    "No space left on device": _FULL,
    "database or disk is full": _FULL,
    "Read-only file system": ". Choose another HEADRACE_LAKE, or remount it.",
    "readonly database": ". Choose another HEADRACE_HOME, or remount it.",
    "unable to open database file": ". Choose another HEADRACE_HOME, or allow us to write there.",
}
