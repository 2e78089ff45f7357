"""Batch work as a client of the stream: extracts, replay, backfill, maintenance, schedules.

Everything here runs from the command line without any server; `batch.flows` gives the same
functions to Prefect. `batch` imports `stream`, never the reverse.
"""
