"""The body of one HTTP answer, bounded while it arrives, whatever it claims to be.

We ask for gzip or nothing and unpack it ourselves: an HTTP library unpacks each piece that comes in
whole, however much that is, and follows a chain of encodings ("gzip, gzip" makes gigabytes out of
64 KB). Here neither the packed nor the unpacked body ever passes the limit. Pure.
Not here: fetching (`news`, `batch.extracts.http`).
"""

from __future__ import annotations

import zlib

ACCEPT_ENCODING = "gzip"


class UnreadableAnswerError(ValueError):
    """An answer is not what the source promises: cut, of another type, or hostile."""


class BoundedBody:
    """Collects a body piece by piece.

    >>> body = BoundedBody("", limit=4)
    >>> body.feed(b"abcdef"), body.is_too_large, body.data
    (None, True, b'abcde')
    """

    def __init__(self, encoding: str, limit: int) -> None:
        """Args: encoding: the header Content-Encoding. Raises: UnreadableAnswerError for another
        one than was asked for.
        """
        kind = encoding.strip().lower() or "identity"
        if kind not in {"identity", ACCEPT_ENCODING}:
            raise UnreadableAnswerError(
                f"content encoding {encoding[:40]!r}, which nobody asked for"
            )
        self._unpacker = zlib.decompressobj(wbits=31) if kind == ACCEPT_ENCODING else None
        self._limit = limit
        self._body = bytearray()

    @property
    def is_too_large(self) -> bool:
        """Whether it passed the limit; feed no more then."""
        return len(self._body) > self._limit

    @property
    def data(self) -> bytes:
        """What came so far, unpacked; of one that is too large one byte more than the limit."""
        return bytes(self._body)

    def feed(self, piece: bytes) -> None:
        """Take a piece as it came over the wire. Raises: UnreadableAnswerError (damaged gzip)."""
        room = self._limit + 1 - len(self._body)
        if self._unpacker is None:
            self._body += piece[:room]
            return
        if room <= 0:
            return
        if self._unpacker.eof and piece:
            raise UnreadableAnswerError("something follows its gzip")
        try:
            self._body += self._unpacker.decompress(piece, room)
        except zlib.error as error:
            raise UnreadableAnswerError(f"damaged gzip ({error})") from None

    def check_whole(self) -> None:
        """Raises: UnreadableAnswerError for gzip that ends in the middle."""
        if self._unpacker is not None and not self._unpacker.eof and self._body:
            raise UnreadableAnswerError("its gzip ends in the middle")
