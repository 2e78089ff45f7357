"""A small dbt project over the small lake: real dbt, one model, one test, seconds per build."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import batch.gold.project
from batch.gold.build import build_gold
from batch.gold.report import GoldReport
from stream.query import run_query

DAY_TRADES = """
{{ config(materialized='incremental', incremental_strategy='append',
          pre_hook='{{ forget_days() }}') }}
select event_day, count(*) as trades, sum(size) as volume, max(ts_arrival_ns) as newest_ns
from ({{ current_trades(only_days=true) }}) as live
group by event_day
"""
GATE = """
select venue, symbol, trade_id, price, cast(ts_event as date) as event_day
from {{ source('silver', 'trades') }} where price > 1000
"""


@dataclass
class SmallGold:
    """`build` runs the whole of `headrace gold`; `rows` reads what is published."""

    small: Any
    project: Path

    def build(self, **options: Any) -> GoldReport:
        return build_gold(self.small.settings, **options)

    def rows(self) -> list[dict[str, Any]]:
        sql = "SELECT event_day, trades, volume FROM gold.day_trades ORDER BY 1"
        return run_query(self.small.settings, sql).to_pylist()

    def write(self, path: str, text: str) -> None:
        (self.project / path).parent.mkdir(parents=True, exist_ok=True)
        (self.project / path).write_text(text)


@pytest.fixture
def small_gold(small_lake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallGold:
    """The project's own settings, macros and sources; the model `day_trades` and a gate."""
    real, project = batch.gold.project.PROJECT, tmp_path / "project"
    for name in ("macros", "data_tests/generic"):
        shutil.copytree(real / name, project / name)
    for name in ("dbt_project.yml", "profiles.yml", "models/staging/_sources.yml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real / name, project / name)
    monkeypatch.setattr(batch.gold.project, "PROJECT", project)
    gold = SmallGold(small_lake, project)
    gold.write("models/day_trades.sql", DAY_TRADES)
    gold.write("data_tests/price_is_sane.sql", GATE)
    return gold


@pytest.fixture
def land(small_lake: Any, trade: Callable[..., bytes]) -> Callable[..., None]:
    """Land one slice of trades: (id, ns of the event), more as keywords of `trade`."""

    def land_trades(*trades: tuple[int, int], **more: Any) -> None:
        small_lake.land(
            small_lake.slice([trade(number, at_ns=at, **more) for number, at in trades])
        )

    return land_trades
