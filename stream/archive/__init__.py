"""A second way into Bronze: stand-alone archivers that the Kinesis Client Library coordinates.

They keep what a stream holds while the dataflow is away, and share its shards by the library's
lease table. Each shard's owner cuts the slices that the road cuts and creates the same objects;
what is there already is compared, not written. Everything else stays the road's: it adopts the
archived slices when it runs again.

    shard       one shard's records to Bronze objects: the rule, and adoption of what is there
    processor   what the library calls: batches in, checkpoints at slice ends out
    place       where a feed's slices go, and what its ledger says of a shard never archived
    rust        the coordinator `kcl`: kcl_rs, in this process
    java        the coordinator `kcl-java`: the MultiLangDaemon, a process per shard
"""
