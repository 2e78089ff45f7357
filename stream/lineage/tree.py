"""What a trace says: a tree of links, what is broken, what was read. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from stream.prove.proof import Difference

State = Literal["verified", "broken", "stated"]
"""Of a link: hashed, recounted or decoded again and equal; not so; or taken from the ledger."""


@dataclass(slots=True)
class Link:
    """One thing on the way, and what follows from it. `says`: the sentence that judges it."""

    kind: str
    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    state: State = "stated"
    says: str = ""
    links: list[Link] = field(default_factory=list)

    def add(self, link: Link) -> Link:
        """Append a link; returns it."""
        self.links.append(link)
        return link

    def judge(self, *, is_good: bool, says: str) -> Link:
        """Say that the link holds or does not; a broken one stays broken."""
        if self.state != "broken":
            self.state, self.says = ("verified" if is_good else "broken"), says
        return self

    def walk(self) -> list[Link]:
        """The link and all below it, in the order in which they are printed."""
        return [self, *(below for link in self.links for below in link.walk())]

    def to_json(self) -> dict[str, Any]:
        """For machines; empty parts are left out."""
        plain = {
            "kind": self.kind,
            "name": self.name,
            **({"facts": self.facts} if self.facts else {}),
            "state": self.state,
            **({"says": self.says} if self.says else {}),
        }
        return plain | ({"links": [x.to_json() for x in self.links]} if self.links else {})


@dataclass(slots=True)
class Reads:
    """What a trace cost. `silver_files` of `silver_listed`: opened, of those in the snapshots."""

    ledger_entries: int = 0
    bronze_objects: int = 0
    silver_files: int = 0
    silver_listed: int = 0
    bytes_hashed: int = 0


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The bytes behind one row. `payload`: the whole record, as it arrived; `message`: the line of
    it that holds the row. `verdict`: what decoding them now gives, compared with Silver's row:
    "equal", "differs" (in `columns`), "refused" (why: `says`) or "not compared".
    """

    slice_id: str
    sequence_number: str
    record_no: int
    line_no: int
    bronze: str
    payload: bytes
    message: bytes
    verdict: Literal["equal", "differs", "refused", "not compared"]
    columns: tuple[str, ...] = ()
    says: str = ""

    def to_json(self, *, shows_bytes: bool) -> dict[str, Any]:
        """For machines. `shows_bytes`: of personal data only on request."""
        shown = {"message": self.message, "payload": self.payload} if shows_bytes else {}
        return {
            "slice_id": self.slice_id,
            "sequence_number": self.sequence_number,
            "record_no": self.record_no,
            "line_no": self.line_no,
            "bronze": self.bronze,
            "payload_bytes": len(self.payload),
            **shown,
            "verdict": self.verdict,
            "columns": list(self.columns),
            "says": self.says,
        }


@dataclass(slots=True)
class Trace:
    """The answer: `back` to the bytes, `forward` to Gold; either may be left out."""

    question: str
    kind: str
    back: Link | None = None
    forward: Link | None = None
    records: list[SourceRecord] = field(default_factory=list)
    broken: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reads: Reads = field(default_factory=Reads)
    hides_bytes: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every link that was looked at holds."""
        return not self.broken

    @property
    def verdict(self) -> str:
        """One line."""
        links = [x for root in (self.back, self.forward) if root for x in root.walk()]
        verified = sum(link.state == "verified" for link in links)
        if self.is_whole and not verified:
            return "nothing is broken, and no link could be checked: see what each line says"
        if self.is_whole:
            return f"whole: {verified} links verified, none broken"
        kinds = ", ".join(sorted({d.kind for d in self.broken}))
        count = len(self.broken)
        return f"BROKEN: {count} link{'s' if count > 1 else ''} ({kinds}), {verified} verified"

    def to_json(self) -> dict[str, Any]:
        """For machines: everything that people are shown, and nothing cut."""
        return {
            "question": self.question,
            "kind": self.kind,
            "is_whole": self.is_whole,
            "verdict": self.verdict,
            "broken": self.broken,
            "notes": self.notes,
            "read": self.reads,
            "records": [r.to_json(shows_bytes=not self.hides_bytes) for r in self.records],
            **({"back": self.back.to_json()} if self.back else {}),
            **({"forward": self.forward.to_json()} if self.forward else {}),
        }
