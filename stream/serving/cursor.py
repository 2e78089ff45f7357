"""Cursors: where the next page begins, sealed so that nobody can make or change one.

    base64url(payload) "." base64url(HMAC-SHA256(key, key id "." payload))

The payload names the query it belongs to (a hash of caller, route and parameters), the snapshot
that its pages are read from, the range, the last key and when it ends. It hides nothing: all of
it was the caller's or in the answer before. Pure but for the clock that is passed in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from stream.serving.keys import KeyRing
from stream.serving.problem import ProblemError
from stream.serving.statements import Value

TTL_MS = 3_600_000
"""An hour: the maintenance keeps snapshots for a quarter more."""
MAX_CHARACTERS = 2_048
PATTERN = r"^[A-Za-z0-9_-]{1,1984}\.[A-Za-z0-9_-]{43}$"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where to go on. `fingerprint`: the query; `snapshot`: what its pages read."""

    fingerprint: str
    snapshot: int
    start_ns: int
    end_ns: int
    after: tuple[Value, ...]
    expires_ms: int


def fingerprint(caller: str, route: str, parameters: Mapping[str, object]) -> str:
    """A hash of who asks what; the size of a page and where it begins are no part of it."""
    asked = {k: v for k, v in parameters.items() if k not in {"cursor", "limit"} and v is not None}
    text = orjson.dumps([caller, route, asked], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]


def seal(cursor: Cursor, ring: KeyRing) -> str:
    """The text of a cursor."""
    key_id, key = ring.sealing()
    payload = orjson.dumps(
        {
            "k": key_id,
            "q": cursor.fingerprint,
            "s": cursor.snapshot,
            "r": [cursor.start_ns, cursor.end_ns],
            "a": list(cursor.after),
            "e": cursor.expires_ms,
        }
    )
    return f"{_encode(payload)}.{_encode(_mac(key, key_id, payload))}"


def unseal(text: str, ring: KeyRing, wanted: str, now_ms: int) -> Cursor:
    """Read a cursor back.

    Args: wanted: the fingerprint of the query that it comes with.

    Raises: ProblemError: 400 for one that we did not make, that was changed, or that belongs to
    another query; 410 for one that is too old.
    """
    head, _, tail = text.partition(".")
    try:
        payload, mac = _decode(head), _decode(tail)
        found = orjson.loads(payload)
        key = ring.opening(str(found["k"]))
    except (ValueError, binascii.Error, KeyError, TypeError):
        raise _refused() from None
    if key is None or not hmac.compare_digest(mac, _mac(key, str(found["k"]), payload)):
        raise _refused()
    if not hmac.compare_digest(str(found["q"]), wanted):
        raise ProblemError(
            400,
            "cursor-of-another-query",
            "This cursor belongs to another query. Send it with exactly the parameters of the "
            "first page; only `limit` may change.",
        )
    if found["e"] < now_ms:
        raise ProblemError(
            410,
            "cursor-expired",
            "This cursor is too old. Begin again without it: the first page pins the newest "
            "snapshot.",
        )
    return Cursor(
        fingerprint=found["q"],
        snapshot=found["s"],
        start_ns=found["r"][0],
        end_ns=found["r"][1],
        after=tuple(found["a"]),
        expires_ms=found["e"],
    )


def _refused() -> ProblemError:
    return ProblemError(
        400,
        "cursor-refused",
        "This is no cursor of this API. Send `next_cursor` of the page before, unchanged.",
    )


def _mac(key: bytes, key_id: str, payload: bytes) -> bytes:
    return hmac.new(key, key_id.encode() + b"." + payload, hashlib.sha256).digest()


def _encode(data: Sequence[int] | bytes) -> str:
    return base64.urlsafe_b64encode(bytes(data)).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Exactly what `_encode` gives: one text per value, so that no second one opens."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(data) != text:
        raise ValueError("not canonical")
    return data
