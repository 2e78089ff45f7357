"""The project's models rendered for any `days`, without dbt: its own text and macros, in Jinja.

dbt takes seconds to compile, so a test that wants many sets of days renders. That both texts are
the same is tested (`test_market_properties`). `dialect`: whose macros dispatch finds, so that the
other dialect's text runs in DuckDB, too, where it is portable.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import yaml

DBT = Path(__file__).parents[3] / "dbt"
MACROS = ("current_trades", "quotes", "bars", "days", "dialect")
THIS = "{this}"
SCHEMAS = {"staging": "gold_staging", "intermediate": "gold_intermediate", "marts": "gold"}


class Project:
    """Renders models; relations have the names that a local build gives them."""

    def __init__(self, *, portable: Sequence[str] = ()) -> None:
        """`portable`: macros of which Athena's version is wanted."""
        self.models = {path.stem: path for path in (DBT / "models").rglob("*.sql")}
        self._variables = yaml.safe_load((DBT / "dbt_project.yml").read_text())["vars"]
        self._portable = set(portable)
        self._given: dict[str, Any] = {}
        self._environment = jinja2.Environment(extensions=["jinja2.ext.do"], autoescape=False)
        macros = "".join((DBT / f"macros/{name}.sql").read_text() for name in MACROS)
        self._environment.globals.update(
            var=self._variable,
            ref=self.relation,
            source=lambda source, name: f'"lake"."{source}"."{name}"',
            config=lambda **_: "",
            target=SimpleNamespace(type="duckdb"),
            modules=SimpleNamespace(datetime=dt),
            adapter=SimpleNamespace(dispatch=self._dispatch),
            is_incremental=lambda: True,
            this=THIS,
            **{"return": lambda value: value},
        )
        module = self._environment.from_string(macros).module
        self._macros = {
            k: v for k, v in vars(module).items() if isinstance(v, jinja2.runtime.Macro)
        }
        self._environment.globals.update(self._macros)

    def sql(self, model: str, days: Sequence[dt.date] | None = None) -> str:
        """What dbt would compile."""
        return self.text(self.models[model].read_text(), days)

    def forget(self, model: str, days: Sequence[dt.date]) -> str:
        """The statement that runs before a model's rows are inserted."""
        return self.text("{{ forget_days() }}", days).replace(THIS, self.relation(model))

    def text(self, template: str, days: Sequence[dt.date] | None = None, **variables: Any) -> str:
        """Any text of the project; `variables`: what a run gives as --vars."""
        named = None if days is None else [day.isoformat() for day in days]
        self._given = {**self._variables, **variables, "days": named}
        return self._environment.from_string(template).render().strip()

    def relation(self, name: str) -> str:
        """A model's or a seed's name in SQL."""
        path = self.models.get(name)
        folder = path.relative_to(DBT / "models").parts[0] if path else ""
        return f'"headrace"."{SCHEMAS.get(folder, "gold_reference")}"."{name}"'

    def _variable(self, name: str, default: Any = None) -> Any:
        return self._given.get(name, default)

    def _dispatch(self, name: str) -> Any:
        return self._macros[f"{'athena' if name in self._portable else 'duckdb'}__{name}"]
