"""Freed memory goes back to the system, where the system can take it."""

from __future__ import annotations

import ctypes

import pytest

from stream.observe.memory import give_back_memory


def test_memory_is_given_back_as_often_as_one_likes() -> None:
    give_back_memory()
    give_back_memory()


def test_memory_without_glibc_is_given_back_by_arrow_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    give_back_memory()
