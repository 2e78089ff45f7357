"""Take secrets out of text before it is written: known values, and what looks like one.

Known are the secrets of the settings and of AWS, in every spelling that they travel in (as they
are, percent-encoded, base64, JSON). Recognised are AWS access keys, Authorization headers,
passwords in addresses, JSON Web Tokens and assignments to names such as `password`, `apikey` or
`X-Amz-Signature`. A 40-character AWS secret key alone looks like any hash: it must be known or
assigned. Pure; the last line of defence, code does not log secrets in the first place.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterator
from urllib.parse import quote, quote_plus

MASK = "[redacted]"
SHORTEST = 6
"""Shorter values would blacken ordinary words; no secret worth its name is so short."""

_NAMES = (
    r"password|passwd|passphrase|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|client[_-]?secret"
    r"|api[_-]?key|access[_-]?key|private[_-]?key|pii[_-]?key"
    r"|token|x-amz-credential|signature"
)
_SIGN = r"""(?: \\?["'] )? \s{0,8} [=:] \s{0,8} (?: \\?["'] )?"""
_ASSIGNED = re.compile(
    rf"""(?ix) (?P<name> (?:{_NAMES}) {_SIGN} ) (?!\[redacted\]) [^\s"'&,;)}}\]\\]+ """
)
_AUTHORIZATION = re.compile(
    rf"""(?ix) (?P<name> authorization {_SIGN} ) (?!\[redacted\]) [^"'\r\n}}]+ """
)
_BEARER = re.compile(r"(?i)\b(?P<name>bearer|basic)\s{1,8}[A-Za-z0-9._~+/=-]{8,}")
_ADDRESS = re.compile(
    r"""(?x) (?P<name> [a-zA-Z0-9+.-]:// [^\s/:@?\#"']{0,100} ) : [^\s@"']{1,256} @"""
)
_ACCESS_KEY = re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*")


class Redactor:
    """Cleans text of given secrets and of whatever looks like one.

    >>> Redactor(["hunter2-hunter2"]).clean("tried hunter2-hunter2 at redis://me:pw1234@cache/0")
    'tried [redacted] at redis://me:[redacted]@cache/0'
    """

    def __init__(self, secrets: Collection[str] = ()) -> None:
        spellings = {s for secret in secrets if len(secret) >= SHORTEST for s in _spellings(secret)}
        longest_first = sorted(spellings, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if spellings else None

    def clean(self, text: str) -> str:
        """The text without secrets; the same object if there are none."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        text = _ACCESS_KEY.sub(MASK, _JWT.sub(MASK, text))
        text = _ADDRESS.sub(rf"\g<name>:{MASK}@", text)
        text = _AUTHORIZATION.sub(rf"\g<name>{MASK}", text)
        text = _BEARER.sub(rf"\g<name> {MASK}", text)
        return _ASSIGNED.sub(rf"\g<name>{MASK}", text)


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
