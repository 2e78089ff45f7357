"""Replay: recorded records through the same flow as live, and only what differs is replaced.

    ledger ─▶ slices of the range ─▶ Bronze (or the stream) ─▶ Road.process ─▶ compare with Silver
                                                                      └─▶ ONE commit of changes

The same code that runs live decodes, de-duplicates and encodes; names contain hashes, so a slice
whose outcome is what the ledger recorded is proven unchanged without a write. A dry run writes
nothing; applied, the changed slices are replaced in one atomic commit while the stream goes on.
"""
