"""Lineage: from any value back to the exact source bytes, and forward again, every link checked.

    question ─▶ keys | rows ─▶ feed_ledger ─▶ slices ─▶ source (bytes, decoded again)
                     │                          └─────▶ fates, silver, bars
                     └ gold_rows (grains, builds) ────▶ gold_forward

The way back is in the rows themselves: `slice_id`, `sequence_number` and `line_no` of Silver name
a record of one Bronze object, and the ledger holds its hash. The way forward is the ledger's:
commits, receipts of compaction and replay, builds of Gold with the entries that they include.
Not here: a proof that nothing is missing (`prove`); lineage events of S3 (`batch.aws`).
"""

from stream.lineage.scope import Options as Options
from stream.lineage.tracer import trace as trace
from stream.lineage.tracer import trace_lake as trace_lake
from stream.lineage.tree import Link as Link
from stream.lineage.tree import SourceRecord as SourceRecord
from stream.lineage.tree import Trace as Trace
