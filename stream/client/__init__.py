"""The lake from a notebook: typed tables from headrace's API in five lines.

    from stream.client import connect

    lake = connect()                                   # of `headrace api` on this machine
    trades = lake.trades("BTC", "2026-11-20")          # all pages, one snapshot
    trades.to_pandas(), trades.to_polars(), trades.arrow

Prices are exact decimals, times nanoseconds UTC. Not here: the API itself (`serving`).
"""

from stream.client.answer import Answer
from stream.client.lake import Lake, connect

__all__ = ["Answer", "Lake", "connect"]
