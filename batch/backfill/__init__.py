"""Backfills: a range of days in chunks that any number of runs share, each chunk done once.

    plan ─▶ claims (claim, lease, complete) ─▶ run: fetch side by side, land many at once ─▶ report
                                                   record: why it was done, committed like code

Not here: what is fetched (`extracts`) and how it lands (`replay`): see `batch.actions`.
"""
