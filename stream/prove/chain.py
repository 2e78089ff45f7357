"""Walk the ledger's chain newest first, and name where it is broken.

The table's head names the last entry; every entry names the one before; every name contains
the hash of its bytes. So one trusted pointer proves the whole history. Where an entry is missing
or changed, the walk names it and goes on below it as well as it can.
"""

from __future__ import annotations

from collections.abc import Iterator

from stream.lake.entries import Entry, Head
from stream.lake.layout import LedgerKey, ledger_number
from stream.lake.store import Store, sha256
from stream.prove.proof import Proof

AHEAD = 256


class Chain:
    """The entries that the head leads to. `is_whole` turns false where one could not be read."""

    def __init__(self, feed: str, head: Head, store: Store, proof: Proof) -> None:
        self._feed = feed
        self._head = head
        self._store = store
        self._proof = proof
        self.is_whole = True

    def walk(self, since_ms: int) -> Iterator[Entry]:
        """Entries, newest first, until one was committed before `since_ms`."""
        path, number = self._head.path or None, self._head.number
        listed = self._list()
        fetched: dict[str, bytes | None] = {}
        while path and number >= 1:
            if path not in fetched:
                fetched = self._fetch(path, number, listed)
            entry = self._read(path, number, fetched[path])
            if entry is None:
                self.is_whole = False
                path = self._below(number, listed)
            else:
                yield entry
                if entry.committed_ms < since_ms:
                    return
                path = entry.previous or None
            number -= 1
        if number >= 1:
            self._proof.differ(
                "ledger_short",
                LedgerKey.prefix(self._feed),
                f"a chain down to entry 1 from {self._head.number}",
                f"no link from entry {number + 1} to entry {number}",
                "Restore the ledger's objects from the bucket's versions: the rest is unproven.",
            )
            self.is_whole = False

    def _list(self) -> dict[int, list[str]]:
        listed: dict[int, list[str]] = {}
        for info in self._store.list(LedgerKey.prefix(self._feed)):
            number = ledger_number(info.path)
            if number is None:
                self._proof.note("foreign", info.path, "not the name of a ledger entry: ignored")
            else:
                listed.setdefault(number, []).append(info.path)
        return listed

    def _fetch(
        self, path: str, number: int, listed: dict[int, list[str]]
    ) -> dict[str, bytes | None]:
        """The entry and what is listed below it: one by one costs a round trip each."""
        wanted = {path: None}
        for below in range(number, max(number - AHEAD, 0), -1):
            wanted |= dict.fromkeys(listed.get(below, []))
        paths = list(wanted)
        return dict(zip(paths, self._store.get_many(paths), strict=True))

    def _read(self, path: str, number: int, data: bytes | None) -> Entry | None:
        if data is None:
            self._proof.differ(
                "ledger_entry_missing",
                path,
                f"entry {number} of the chain",
                "no object",
                "Restore it from the bucket's versions; its slices cannot be proven without it.",
            )
            return None
        digest = sha256(data)[:16]
        if digest != LedgerKey.parse(path).digest:
            self._proof.differ(
                "ledger_entry_changed",
                path,
                f"sha256 {LedgerKey.parse(path).digest}…",
                f"sha256 {digest}…",
                "Restore the version that its name promises; do not trust its counts.",
            )
        try:
            entry = Entry.from_bytes(data)
        except (ValueError, KeyError, TypeError):
            return None  # its changed hash was named above
        if entry.number != number or entry.feed != self._feed:
            self._proof.differ(
                "ledger_entry_misplaced",
                path,
                f"entry {number} of {self._feed}",
                f"entry {entry.number} of {entry.feed}",
                "The chain was edited: compare with the table's snapshot summaries.",
            )
            return None
        return entry

    def _below(self, number: int, listed: dict[int, list[str]]) -> str | None:
        """The only candidate for the entry before an unreadable one; None if there is a choice."""
        candidates = listed.get(number - 1, [])
        return candidates[0] if len(candidates) == 1 else None
