"""Parse RSS 2.0 safely: items as flat dictionaries, document types and entities refused.

A feed is a stranger's file: entity expansion can turn 1 KB into gigabytes and read local files.
No RSS feed needs a DTD, so the parser stops at its first sign; nor thousands of items, each of
which costs fifty times its bytes. Not here: fetching (`news`).
"""

from __future__ import annotations

from xml.parsers import expat

from stream.producers.answer import UnreadableAnswerError

MAX_ITEMS = 5_000
"""Real feeds have tens; more could not be remembered and would come again at every poll."""
FIELDS = ("guid", "link", "title", "description", "pubDate", "category", "author")


def parse_rss(document: bytes) -> list[dict[str, str | None]]:
    """Items in document order; several categories are joined by commas, absent fields are None.

    >>> parse_rss(b"<rss><channel><item><guid>1</guid></item></channel></rss>")[0]["guid"]
    '1'

    Raises: UnreadableAnswerError (not XML, cut, with a document type, or too many items).
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise UnreadableAnswerError(f"not well-formed XML: {error}") from error
    except (LookupError, ValueError) as error:  # how Python says that it lacks an encoding
        raise UnreadableAnswerError(f"in an encoding that cannot be read: {error}") from error
    if reader.root != "rss":
        raise UnreadableAnswerError(f"expected <rss>, found <{reader.root}>")
    return reader.items


def _refuse_doctype(*_: object) -> None:
    raise UnreadableAnswerError("it declares a document type or entities; refused for safety")


class _Reader:
    def __init__(self) -> None:
        self.items: list[dict[str, str | None]] = []
        self.root: str | None = None
        self._item: dict[str, list[str]] | None = None
        self._depth = 0  # inside the current field: markup there belongs to its text
        self._field: str | None = None
        self._text: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        del attributes
        self.root = self.root or name
        if name == "item" and self._item is None:
            self._item = {}
        elif self._field is not None:
            self._depth += 1
        elif self._item is not None and name in FIELDS:
            self._field, self._depth, self._text = name, 0, []

    def end(self, name: str) -> None:
        if self._field is not None:
            if self._depth:
                self._depth -= 1
                return
            assert self._item is not None
            self._item.setdefault(self._field, []).append("".join(self._text).strip())
            self._field = None
        elif name == "item" and self._item is not None:
            found = self._item
            self.items.append(
                {key: ",".join(found[key]) if key in found else None for key in FIELDS}
            )
            self._item = None
            if len(self.items) > MAX_ITEMS:
                raise UnreadableAnswerError(f"it holds more than {MAX_ITEMS:,} items")

    def text(self, data: str) -> None:
        if self._field is not None:
            self._text.append(data)
