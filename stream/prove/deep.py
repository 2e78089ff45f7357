"""Decode a slice's Bronze object again and compare the counts with the ledger's.

A difference is not damage: the decoder of today may accept what the one of then refused, or the
reverse. Accepting more is what `redrive` is for.
"""

from __future__ import annotations

import pyarrow as pa

from stream.decode import decode_records
from stream.feeds.contract import Contract
from stream.lake.entries import SliceRecord
from stream.prove.proof import Difference


def check_decoder(
    contract: Contract, record: SliceRecord, records: pa.RecordBatch
) -> list[Difference]:
    """Differences between what the decoder says now and what the ledger counted then."""
    decoded = decode_records(contract, records)
    now = {
        "messages": decoded.messages,
        "rows": decoded.rows.num_rows,
        "rejects": decoded.rejects.num_rows,
        "ignored": sum(decoded.ignored.values()),
    }
    then = {
        "messages": record.messages,
        "rows": record.silver_rows + record.duplicates,
        "rejects": sum(record.rejected.values()),
        "ignored": sum(record.ignored.values()),
    }
    return [
        Difference(
            "decoder_differs",
            f"{record.slice_id}: {name}",
            f"{then[name]} as committed",
            f"{now[name]} with the decoder of today",
            f"If the decoder was fixed: `headrace redrive {contract.feed}` lands what it accepts "
            "now, `headrace replay` makes the slice anew. If not, it is not deterministic.",
        )
        for name in then
        if then[name] != now[name]
    ]
