"""What a table and its ledger still need. Read only.

The table needs whatever its metadata or a snapshot names. The ledger needs its entries, quarantine
and data files: a data file from the entry that names it on, as a file of a slice as it is now or as
one that a rewrite wrote, until a later entry's rewrite removed it. A file may come back under its
name (names are hashes of content), so order decides: the newest word on a file counts. Quarantine
objects are needed for ever, even those of slices that were replayed since: they are the only trace
of what was refused then. Bars follow the ledger: what entries wrote that they do not include yet is
needed whoever removed it, because they read those files to see which bars are touched.
Memory: one path per data file, quarantine object and entry; entries are streamed.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from stream.errors import FatalError
from stream.lake.catalog import LakeTable
from stream.lake.catalog_maintenance import References
from stream.lake.entries import Entry, Head, ObjectRef
from stream.lake.layout import LedgerKey
from stream.lake.ledger import Ledger
from stream.lake.store import Store
from stream.prove.chain import Chain
from stream.prove.proof import Proof


@dataclass(slots=True)
class Needed:
    """`paths`: objects that a ledger up to its entry `number` needs. `removed_ms`: data files that
    left the table, and when the commit that took them out was made. `followed`: the entry up to
    which the bars of the feed are made; None without bars.
    """

    number: int = 0
    followed: int | None = None
    paths: set[str] = field(default_factory=set)
    removed_ms: dict[str, int] = field(default_factory=dict)
    _superseded: set[str] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        """Take in the next older entry."""
        for item in self._files(entry):
            if item.path not in self.removed_ms:
                self.paths.add(item.path)
        for path in (path for rewrite in entry.rewrites for path in rewrite.removed):
            if path not in self.paths:
                self.removed_ms.setdefault(path, entry.committed_ms)
        if self.followed is not None and entry.number > self.followed:
            self.paths |= {f.path for r in entry.slices for f in r.silver}
            self.paths |= {f.path for r in entry.redriven for f in r.silver}
        self.paths |= {r.quarantine.path for r in entry.slices if r.quarantine is not None}
        if entry.kind == "replay":
            self._superseded |= {record.slice_id for record in entry.slices}

    def _files(self, entry: Entry) -> list[ObjectRef]:
        """Data files that an entry names, but for those of slices that were replayed since."""
        old = self._superseded
        return [
            *(f for rewrite in entry.rewrites for f in rewrite.written),
            *(f for r in entry.slices if r.slice_id not in old for f in r.silver),
            *(f for r in entry.redriven if r.slice_id not in old for f in r.silver),
        ]


def read_needed(feed: str, head: Head, store: Store, followed: int | None = None) -> Needed:
    """Walk a ledger from its head to its beginning. Args: followed: see `Needed`.

    Raises: FatalError when an entry is missing or changed: what it needs is unknown then.
    """
    proof = Proof(feed, None, None)
    needed, path = Needed(head.number, followed), head.path
    for entry in Chain(feed, head, store, proof).walk(0):
        if path:
            needed.paths.add(path)
        needed.add(entry)
        path = entry.previous
    if proof.differences:
        first = " ".join(str(proof.differences[0]).split())
        raise FatalError(
            f"feed {feed}: its ledger is damaged, so nothing can be said to be unneeded. Nothing "
            f"was removed; run `headrace prove {feed}`. {first}"
        )
    return needed


class Keeper:
    """One table with its ledger, if it has one: whether they need an object.

    `read` once, in full; `look_again` adds what the table came to name since.
    """

    def __init__(self, table: LakeTable, store: Store, followed: int | None = None) -> None:
        self._table = table
        self._store = store
        self._followed = followed
        self._references = References(table)
        self._named: AbstractSet[str] = frozenset()
        self.needed = Needed()

    @property
    def name(self) -> str:
        return self._table.name

    @property
    def lake(self) -> str:
        return self._store.root

    @property
    def count(self) -> int:
        """How many objects they need."""
        return len(self._named | self.needed.paths)

    def read(self) -> None:
        """Read the table, then its ledger. Raises: FatalError, StoreUnavailableError."""
        self.look_again()
        head = Head.of(self._table.properties)
        if head.path:
            feed = LedgerKey.parse(head.path).feed
            self.needed = read_needed(feed, head, self._store, self._followed)

    def look_again(self) -> None:
        """See what the table names now. Raises: StoreUnavailableError."""
        self._named = self._references.read()

    def is_named(self, path: str) -> bool:
        """Whether the table named an object when it was last looked at."""
        return self._store.uri(path) in self._named

    def find_outside(self) -> str | None:
        """An address that the table names and that does not lie in the lake."""
        return next((a for a in self._named if not a.startswith(f"{self.lake}/")), None)

    def keeps(self, path: str) -> bool:
        """Whether the table or its ledger needs an object."""
        return path in self.needed.paths or self.is_named(path)

    def newly_needed(self) -> Needed:
        """What the ledger's entries since `read` need."""
        newer, head = Needed(), Head.of(self._table.properties)
        if head.path:
            ledger = Ledger(LedgerKey.parse(head.path).feed, self._table, self._store)
            for entry in reversed(ledger.entries(after=self.needed.number)):
                newer.add(entry)
        return newer
