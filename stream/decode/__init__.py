"""Messages to typed rows: columns for whole slices, one record at a time for what is in doubt.

    records ─ lines ─▶ messages ─ learn, template ─▶ spans ─ value_columns ─▶ columns ─┐
                          └─ message, values: per record, gives every verdict ─────────┤
                                                                   rows, rejects ◀─ rules

`decode_records` is all that others need. A feed's contract says what messages look like; `plan`
prepares it. Not here: what is a duplicate (`dedup`), where rows go (`silver`, `quarantine`).
"""

from stream.decode.decoder import REJECT_SCHEMA, Decoded, decode_records, rows_schema

__all__ = ["REJECT_SCHEMA", "Decoded", "decode_records", "rows_schema"]
