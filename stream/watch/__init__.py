"""What a person who watches the platform sees: one state, collected again every second.

    state        the read model: plain frozen dataclasses and their JSON
    collect      reads everything into one `WatchState`; a part that is away becomes a problem
    history      a bounded ring of samples per feed that survives restarts
    ledger_history  lag, freshness and throughput of any range, derived from the ledger

`headrace top`, `headrace plot` and `headrace ui` show it; none of them reads a lake by itself.
Not here: alarms (`alerts`), metrics of a running flow (`telemetry`).
"""
