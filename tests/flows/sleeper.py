"""A flow that works until it is killed: what test_ecs_worker.py crashes."""

from __future__ import annotations

import time

from prefect import flow


@flow(name="sleeper")
def sleeper() -> None:
    time.sleep(300)
