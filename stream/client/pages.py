"""Page after page of one query over HTTP, as Arrow; a busy server is asked again, within bounds.

A cursor pins the snapshot, so pages never overlap and never leave a row out, whatever is committed
meanwhile. Errors of the API arrive as its own words. Not here: what can be asked (`lake`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import orjson
import pyarrow as pa

from stream.clock import SYSTEM_CLOCK, Clock
from stream.errors import ConfigError, RetryableError, StoreUnavailableError, ThrottledError

ARROW = "application/vnd.apache.arrow.stream"
TRIES = 5
MAX_WAIT_SECONDS = 30.0
BUSY = (429, 502, 503, 504)


class Pages:
    """Asks one API. `close` frees its connections."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._url, self._clock = url, clock
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_seconds,
            transport=transport,
            follow_redirects=False,  # another address must not get the token
        )

    def read(self, path: str, parameters: Mapping[str, Any]) -> Iterator[tuple[pa.Table, str]]:
        """Every page of a query and the raw `X-As-Of` of its answer; one request each, in order.

        Raises: ConfigError (the API refuses the question, or it is no API of ours), ThrottledError,
        StoreUnavailableError.
        """
        given = {name: str(value) for name, value in parameters.items() if value is not None}
        cursor: str | None = None
        while True:
            answer = self._get(path, {**given, **({"cursor": cursor} if cursor else {})}, ARROW)
            try:
                table = pa.ipc.open_stream(answer.content).read_all()
            except pa.ArrowInvalid as error:
                raise ConfigError(
                    f"{self._url}{path}: expected {ARROW}, found "
                    f"{answer.headers.get('content-type')}. Is this the address of headrace's API?"
                ) from error
            yield table, answer.headers.get("x-as-of", "")
            cursor = answer.headers.get("x-next-cursor")
            if not cursor:
                return

    def json(self, path: str, parameters: Mapping[str, Any]) -> Any:
        """One JSON answer. Raises: as `read`."""
        given = {name: str(value) for name, value in parameters.items() if value is not None}
        return orjson.loads(self._get(path, given, "application/json").content)

    def close(self) -> None:
        """Free the connections."""
        self._http.close()

    def _get(self, path: str, parameters: Mapping[str, str], accept: str) -> httpx.Response:
        refused: RetryableError | None = None
        wait_seconds = 0.0
        for attempt in range(TRIES):
            if attempt:
                self._clock.sleep(min(MAX_WAIT_SECONDS, wait_seconds))
            try:
                answer = self._http.get(path, params=parameters, headers={"Accept": accept})
            except httpx.HTTPError as error:
                raise StoreUnavailableError(
                    f"no answer from {self._url}: {error}. Is it running? `headrace api` starts it."
                ) from error
            if answer.status_code == 200:
                return answer
            if answer.status_code not in BUSY:
                raise ConfigError(f"{self._url}{path}: {_words(answer)}")
            kind = ThrottledError if answer.status_code == 429 else StoreUnavailableError
            refused = kind(f"{self._url}{path}: {_words(answer)} (asked {attempt + 1} times)")
            wait_seconds = _wait_seconds(answer, attempt + 1)
        assert refused is not None
        raise refused


def _wait_seconds(answer: httpx.Response, attempt: int) -> float:
    """What the server asks for, else twice as long each time."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 0.25 * 2**attempt


def _words(answer: httpx.Response) -> str:
    """The API's own explanation (RFC 9457), or the bare status."""
    try:
        problem = orjson.loads(answer.content)
        return f"{problem['title']}: {problem['detail']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"HTTP {answer.status_code} {answer.reason_phrase}"
