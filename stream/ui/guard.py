"""Answer our own page, asked by its own name, with reading requests alone.

The page has no login: what protects it is that it listens on loopback. A site that a browser has
open could still reach it, by a DNS name that it points at 127.0.0.1 (rebinding) or by a request
across origins; so the Host header must be one of our names, and a browser that says that another
site asks is refused, except to open the page. Every answer carries the headers that keep the page
from loading, framing or running anything but its own files.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  # nosec B104: recognised, not bound


class Guard:
    """ASGI middleware around the whole application. `names`: hosts it answers to, beside ours."""

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = (LOCAL_NAMES | {name.lower() for name in names}) - WILDCARDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        name = host_name(headers.get("host", ""))
        if name not in self._names:
            known = ", ".join(sorted(self._names))
            return PlainTextResponse(
                f"This page is not called {name!r}: it answers to {known}. If it should answer to "
                "that name, too, add it to HEADRACE_UI_HOSTS.\n",
                status_code=421,
            )
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse(
                "The page only reads: GET or HEAD.\n", status_code=405, headers={"Allow": "GET"}
            )
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"} and not (
            scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        ):
            return PlainTextResponse("Another site may not ask this.\n", status_code=403)
        return None


def host_name(header: str) -> str:
    """The name in a Host header, without its port.

    >>> [host_name(h) for h in ("LocalHost:8380", "127.0.0.1", "[::1]:8380", "")]
    ['localhost', '127.0.0.1', '::1', '']
    """
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
