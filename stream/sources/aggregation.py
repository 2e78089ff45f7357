"""Split a record that the Kinesis Producer Library aggregated into its user records.

Layout: four magic bytes, a protobuf message (1: table of partition keys, 2: table of explicit
hash keys, 3: records of {1: index into the key table, 2: index of the hash key, 3: data}), and
the MD5 of the message. Decoded by hand: the four fields need forty lines, while the published
codec patches `sys.path` when imported and drops user records that it cannot place. Tests
compare both. Bounded: user records name a key by its index, so a record of 200 KB could claim
gigabytes of keys; keys that Kinesis would refuse, or that together dwarf the record, are taken for
damage. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5

AGGREGATED = b"\xf3\x89\x9a\xc2"
MAX_KEY_CHARACTERS = 256
"""Kinesis' own bound of a partition key."""
MAX_GROWTH = 16
"""Keys of all user records together, as a multiple of the record: a one-byte message with a key of
a hundred characters still fits."""

_DIGEST_BYTES = 16
_KEY_TABLE, _RECORDS = 1, 3
_KEY_INDEX, _DATA = 1, 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def split_aggregated(payload: bytes) -> list[tuple[bytes, str]] | None:
    """The user records (payload, partition key) in order; None if the record is not aggregated.

    None also for a bad checksum, a broken message, one without records or one that grows beyond
    reason: the caller keeps the bytes as they are, nothing is lost.
    """
    if not payload.startswith(AGGREGATED):
        return None
    body, digest = payload[len(AGGREGATED) : -_DIGEST_BYTES], payload[-_DIGEST_BYTES:]
    if md5(body, usedforsecurity=False).digest() != digest:
        return None
    keys: list[str] = []
    users: list[tuple[bytes, int]] = []
    try:
        for number, value in _fields(body):
            if number == _KEY_TABLE and isinstance(value, bytes):
                keys.append(_key(value))
            elif number == _RECORDS and isinstance(value, bytes):
                users.append(_user_record(value))
        found = [(data, keys[index]) for data, index in users]
    except (IndexError, UnicodeDecodeError, ValueError):
        return None
    is_sane = sum(len(key) for _, key in found) <= MAX_GROWTH * len(payload)
    return found if found and is_sane else None


def _key(value: bytes) -> str:
    key = value.decode()
    if len(key) > MAX_KEY_CHARACTERS:
        raise ValueError(f"a partition key of {len(key)} characters")
    return key


def _user_record(message: bytes) -> tuple[bytes, int]:
    fields = dict(_fields(message))
    data, index = fields.get(_DATA), fields.get(_KEY_INDEX)
    if not isinstance(data, bytes) or not isinstance(index, int):
        raise ValueError("a user record without data or partition key")  # noqa: TRY004
    return data, index


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; ValueError or IndexError if the message is broken."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        end = at + size
        if end > len(message):
            raise ValueError("a field beyond the end of the message")
        yield tag >> 3, message[at:end]
        at = end


def _varint(message: bytes, at: int) -> tuple[int, int]:
    byte = message[at]
    value, shift, at = byte & 0x7F, 7, at + 1
    while byte & 0x80:
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return value, at
