"""An older answer of the catalog is asked again, and refused in the end."""

from __future__ import annotations

from typing import Any

import pytest

from stream.clock import ManualClock
from stream.errors import StoreUnavailableError
from stream.lake.newest import NewestRead


def test_older_answer_is_asked_again_until_it_is_new_enough() -> None:
    clock = ManualClock()
    newest, answers = NewestRead(clock), [7, 6, 5]
    newest.note("trades", 7)
    newest.read("trades", lambda: ("trades", answers.pop()))
    assert answers == []
    assert clock.monotonic() > 0


def test_catalog_that_stays_behind_is_unavailable() -> None:
    newest = NewestRead(ManualClock())
    newest.note("trades", 7)
    with pytest.raises(StoreUnavailableError, match=r"answers with state 6.*has read state 7"):
        newest.read("trades", lambda: ("trades", 6))


def test_tables_are_told_apart() -> None:
    newest = NewestRead(ManualClock())
    newest.note("trades", 7)
    newest.read("bars", lambda: ("bars", 1))


def test_handle_on_a_stale_catalog_waits_for_what_another_handle_has_committed(
    small_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = small_lake.lake.table(small_lake.contract)
    old = reader.iceberg.metadata.last_sequence_number
    small_lake.land_trades(3)
    fresh, stale = type(reader.iceberg).refresh, [1]

    def refresh(table: Any) -> Any:
        return table if stale and stale.pop() else fresh(table)

    monkeypatch.setattr(type(reader.iceberg), "refresh", refresh)
    reader.refresh()

    assert reader.iceberg.metadata.last_sequence_number > old
    assert not stale
