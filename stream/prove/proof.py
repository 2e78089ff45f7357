"""The verdict of a proof: totals, differences, and how both read. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from stream.clock import to_utc


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as the ledger says. `kind` is a stable code."""

    kind: str
    where: str
    expected: str
    found: str
    advice: str

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.where}\n    expected {self.expected}\n    found    {self.found}\n"
            f"    do       {self.advice}"
        )


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth knowing that is no difference: a named gap, an object in flight."""

    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.text}"


@dataclass(slots=True)
class Totals:
    """What was counted. `records` is what the ledger says was read; the rest was recounted."""

    shards: int = 0
    commits: int = 0
    slices: int = 0
    records: int = 0
    bronze_objects: int = 0
    bronze_rows: int = 0
    messages: int = 0
    silver_files: int = 0
    silver_rows: int = 0
    quarantined: int = 0
    duplicates: int = 0
    ignored: int = 0
    redriven: int = 0
    bytes_hashed: int = 0


@dataclass(slots=True)
class Proof:
    """The result of `prove` for one feed and range of arrival times."""

    feed: str
    from_ms: int | None
    to_ms: int | None
    is_deep: bool = False
    totals: Totals = field(default_factory=Totals)
    differences: list[Difference] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether everything is as the ledger says."""
        return not self.differences

    def differ(self, kind: str, where: str, expected: object, found: object, advice: str) -> None:
        """Name a difference."""
        self.differences.append(Difference(kind, where, str(expected), str(found), advice))

    def note(self, kind: str, where: str, text: str) -> None:
        """Name something that is no difference."""
        self.notes.append(Note(kind, where, text))

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {"is_equal": self.is_equal, **asdict(self)}

    def __str__(self) -> str:
        """A table of what was counted, notes and differences, then the verdict."""
        rows = [
            ("records read", self.totals.records, "by sequence continuity of the ledger"),
            (
                "Bronze rows",
                self.totals.bronze_rows,
                f"{self.totals.bronze_objects} objects hashed",
            ),
            ("messages", self.totals.messages, "decoded, ignored and rejected"),
            ("Silver rows", self.totals.silver_rows, f"{self.totals.silver_files} files hashed"),
            ("duplicates", self.totals.duplicates, "dropped within the dedup horizon"),
            ("ignored", self.totals.ignored, "heartbeats, acknowledgements, snapshots"),
            ("quarantined", self.totals.quarantined, f"{self.totals.redriven} redriven since"),
        ]
        table = [f"  {name:<13} {count:>14,}  {text}" for name, count, text in rows]
        head = f"{self.feed}, {self._range()}: {self._scope()}"
        return "\n".join([head, *table, *self._lines(), self.verdict])

    @property
    def verdict(self) -> str:
        """One line: equal, or the number and kinds of differences."""
        if self.is_equal:
            return (
                f"equal: every one of {self.totals.records:,} records is in Bronze once, and "
                "Silver holds exactly what the ledger counted."
            )
        kinds = ", ".join(sorted({d.kind for d in self.differences}))
        count = len(self.differences)
        return f"NOT equal: {count} difference{'s' if count > 1 else ''} ({kinds})."

    def _range(self) -> str:
        if self.from_ms is None and self.to_ms is None:
            return "all that was committed"
        return f"arrived {_moment(self.from_ms)} to {_moment(self.to_ms)}"

    def _scope(self) -> str:
        return (
            f"{self.totals.shards} shards, {self.totals.slices} slices, "
            f"{self.totals.commits} commits"
        )

    def _lines(self) -> list[str]:
        shown = [f"  note: {note}" for note in self.notes[:20]]
        if len(self.notes) > 20:
            shown.append(f"  note: {len(self.notes) - 20} more")
        return [*shown, *(str(difference) for difference in self.differences[:50])]


def _moment(timestamp_ms: int | None) -> str:
    return "…" if timestamp_ms is None else to_utc(timestamp_ms * 1_000_000).isoformat()


def render_proof(proof: Proof) -> str:
    """The proof as text for people."""
    return str(proof)
