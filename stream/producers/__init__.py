"""What publishes to Kinesis: the simulator, files, venues' websockets and news polls.

One road for all of them: a source yields messages with a partition key, `pack` joins messages of
one key into one Kinesis record, `publish` sends records so that the order within a key holds and
nothing is dropped in silence, `spool` keeps them on disk while the stream cannot be reached.
`produce` ties them together for the command line. Not here: creating streams, decoding messages.
"""
