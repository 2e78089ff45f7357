"""Where dbt's project is, and which version of its code a build was made by."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from stream.errors import ConfigError

PROJECT = Path(__file__).parents[2] / "dbt"
CODE = ("models", "macros", "seeds")
"""What decides the rows of Gold; tests and docs do not."""


def find_project() -> Path:
    """The folder with `dbt_project.yml`. Raises: ConfigError where there is none."""
    if not (PROJECT / "dbt_project.yml").is_file():
        raise ConfigError(
            f"{PROJECT} is no dbt project. Gold's models are in a checkout of headrace or in its "
            "image, not in an installed package: run it there."
        )
    return PROJECT


def project_hash(project: Path) -> str:
    """Changes with any model, macro, seed or variable: all days must then be computed again."""
    found = [path for folder in CODE for path in sorted((project / folder).rglob("*"))]
    code = [path for path in found if path.suffix in (".sql", ".csv")]
    digest = hashlib.sha256()
    for path in [project / "dbt_project.yml", *code]:
        digest.update(f"{path.relative_to(project)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def project_variable(project: Path, name: str) -> int:
    """A number among the project's variables. Raises: ConfigError if it is none."""
    value = yaml.safe_load((project / "dbt_project.yml").read_text())["vars"].get(name)
    if not isinstance(value, int):
        raise ConfigError(f"{project}/dbt_project.yml: variable {name} is {value!r}, not a number")
    return value
