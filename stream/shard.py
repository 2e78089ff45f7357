"""A shard's name, and its sequence numbers as text that sorts. Standard library only.

What names an object of the lake needs these and nothing else, so that a small process (a Lambda
function) can read keys without the libraries that read records.
Not here: positions, slices and how records are cut (`slices`).
"""

from __future__ import annotations

from dataclasses import dataclass

SEQUENCE_DIGITS = 56
"""Kinesis sequence numbers have up to 56 digits; padded to that, text order is number order."""


@dataclass(frozen=True, slots=True, order=True)
class ShardRef:
    """A shard of one life of one stream. `stream` is name and identity: a new life differs."""

    feed: str
    stream: str
    shard: str

    def __str__(self) -> str:
        return f"{self.stream}/{self.shard}"


def pad_sequence(sequence_number: str | None) -> str:
    """Zero-pad so that text order is number order; '' for the start of a shard.

    >>> pad_sequence("12")[-4:], len(pad_sequence("12"))
    ('0012', 56)
    """
    return "" if sequence_number is None else sequence_number.zfill(SEQUENCE_DIGITS)
