"""Where the judges' own environments are: what conflicts with headrace's dependencies."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def program(environment: str, name: str = "python") -> Path:
    """A program of `.venv/<environment>`, or of that directory below JUDGES_ENVIRONMENTS.

    Raises: FileNotFoundError saying which `make` target installs it.
    """
    base = Path(os.environ.get("JUDGES_ENVIRONMENTS", ROOT / ".venv"))
    path = base / environment / "bin" / name
    if not path.exists():
        target = "policies" if environment == "policies" else "tools"
        raise FileNotFoundError(f"{path} is not there: run `make {target}`")
    return path
