"""Prefect flows: when, where and with what result a batch action runs.

    parameters ─▶ checked ─▶ action of `batch.actions` ─▶ table artifact ─▶ event

One file per flow, discovered by nothing: `deploy/prefect/prefect.yaml` names them. A flow holds no
rule of its own; the same action runs from the command line without any server. Streams are never
flow runs: an endless flow breaks on heartbeats, leases and memory, so Prefect only watches them
(`stream_watch`). This folder and deploy/prefect are the only places that import Prefect.
Not here: the actions (`batch`), pools, schedules and automations (deploy/prefect).
"""
