"""Maintenance of the lake's tables: compact, expire snapshots, remove orphans, retention.

    compact          many small files of a day -> few sorted ones, the same rows, with a receipt
    expire           old snapshots leave the metadata; files stay until they are orphans
    orphans          files that no snapshot and no ledger entry needs any more are deleted
    retention        whole days that a table need not keep leave it; the ledger says so

Every job is a dry run unless told otherwise, is safe while the stream commits and while a second
one runs, and says files and bytes before and after.
"""
