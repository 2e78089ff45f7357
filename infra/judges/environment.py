"""Where the judges' own environments are: what conflicts with headrace's dependencies."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def program(environment: str, name: str = "python") -> Path:
    """A program of `.venv/<environment>`.

    Raises: FileNotFoundError saying how it is installed.
    """
    path = ROOT / ".venv" / environment / "bin" / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: run `make tools`")
    return path
