"""The HTTP API of the lake: one router, behind a gateway in Lambda and behind uvicorn locally.

A request passes, in this order: `app` (who asks, how often, is the query well formed), `routes`
(what is asked), `pages` (which snapshot, which page, is it already known), `statements` (SQL,
values bound beside it), a `Rows` port (`duckdb_rows` here, `athena_rows` in AWS), `formats`.
Not here: the gateway (`infra.components.serving`), the Python client (`client`).
"""
