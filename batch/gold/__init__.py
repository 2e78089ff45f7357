"""Gold: what analysts ask, built by dbt from pinned Silver, audited, then published at once.

    ledger ─▶ days that commits touched ─┐
    tables ─▶ pinned snapshots ──────────┴─▶ dbt build into a slot ─▶ tests ─▶ publish | reject

A build never touches what is published. The SQL lives in `dbt/`; this package decides what to
build, runs dbt in a process of its own, and switches readers over in one step.
"""
