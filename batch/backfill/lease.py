"""Keep the leases in hand alive while their work goes on in other threads.

A thread renews every lease several times in its lifetime. `is_ours` is the last look before
something is made durable: it trusts the last renewal while that is fresh and asks the ledger
when it is not, as after a pause of the whole process. Whatever else happens, a lost lease is
refused by its attempt number when it is completed.
Not here: claiming and completing (`backfill`).
"""

from __future__ import annotations

import logging
import threading
from typing import Self

from batch.backfill.claims import Claim, Claims
from stream.clock import Clock, now_ms
from stream.errors import RetryableError

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 4


class LeaseKeeper:
    """The leases of one run; its thread runs inside a `with` block."""

    def __init__(self, claims: Claims, lease_seconds: float, clock: Clock) -> None:
        self._claims, self._clock = claims, clock
        self._pause_seconds = lease_seconds / RENEWALS_PER_LEASE
        self._until_ms: dict[Claim, int] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def hold(self, claim: Claim) -> None:
        """Renew this lease from now on."""
        with self._lock:
            self._until_ms[claim] = claim.until_ms

    def drop(self, claim: Claim) -> None:
        """Renew it no more: it ended or was lost."""
        with self._lock:
            self._until_ms.pop(claim, None)

    def held(self) -> list[Claim]:
        """The leases in hand that are not known to be lost."""
        with self._lock:
            return list(self._until_ms)

    def is_ours(self, claim: Claim) -> bool:
        """Whether nobody else can have it now. Raises: what the ledger raises, or raised before."""
        if self.error is not None:
            raise self.error
        with self._lock:
            until_ms = self._until_ms.get(claim, 0)
        if not until_ms:
            return False
        margin_ms = claim.lease_ms // 2
        return now_ms(self._clock) < until_ms - margin_ms or self._renew(claim)

    def _run(self) -> None:
        while not self._stopped.wait(self._pause_seconds):
            for claim in self.held():
                try:
                    self._renew(claim)
                except RetryableError as error:
                    log.warning("lease of %s not renewed, trying again: %s", claim.key, error)
                except Exception as error:  # noqa: BLE001 - raised to the owner by `is_ours`
                    self.error = error
                    return

    def _renew(self, claim: Claim) -> bool:
        asked_ms = now_ms(self._clock)
        is_ours = self._claims.renew(claim)
        with self._lock:
            if claim in self._until_ms:
                if is_ours:
                    self._until_ms[claim] = asked_ms + claim.lease_ms
                else:
                    del self._until_ms[claim]
        return is_ours
