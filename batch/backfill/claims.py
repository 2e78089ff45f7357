"""Who does which piece of work: claims with leases, in SQLite here and in DynamoDB on AWS.

    planned ─claim─▶ claimed ─complete─▶ done
       ▲                │ └────fail────▶ failed ─claim─▶ claimed …
       └────release─────┘  (a lease that ran out may be claimed by anybody)

Guarantees, for both stores (one contract suite): at most one live lease a key; done stays done;
the number of attempts only grows, and it is the fence: whoever holds an older attempt can no
longer renew, complete, fail or release. What an owner that comes back claims again is its own at
once, so a retried run need not wait for its own leases.
Leases compare wall clocks: clocks that differ shorten a lease or delay a take-over; the fence
holds whatever the clocks say.
Not here: what the work is (`backfill`), DynamoDB (`aws.claim_table`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import orjson

from stream.clock import SYSTEM_CLOCK, Clock, now_ms
from stream.errors import ConfigError, FatalError, PipelineError, StoreUnavailableError

State = Literal["planned", "claimed", "done", "failed"]
Result = Mapping[str, int | str]

ERROR_CHARS = 2_000
BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease in hand. `attempt` is the fence; `until_ms` when it ends unless it is renewed."""

    key: str
    owner: str
    attempt: int
    lease_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """What the ledger says of one key. Times are milliseconds since the epoch, UTC."""

    key: str
    state: State = "planned"
    attempts: int = 0
    owner: str | None = None
    claimed_ms: int | None = None
    until_ms: int | None = None
    ended_ms: int | None = None
    result: Result = field(default_factory=dict)
    error: str | None = None

    def is_held(self, at_ms: int) -> bool:
        """Whether somebody's lease lives at this time."""
        return self.state == "claimed" and at_ms < (self.until_ms or 0)


class Claims(Protocol):
    """A ledger of claims, shared by processes. All raise RetryableError or ConfigError."""

    def plan(self, keys: Iterable[str]) -> int:
        """Write down work to come; keys that are known stay as they are. Returns: new keys."""
        ...

    def claim(self, key: str, owner: str, lease_seconds: float) -> Claim | None:
        """Take a key; None when it is done or in another owner's live lease."""
        ...

    def renew(self, claim: Claim) -> bool:
        """Extend a lease from now on; False when it is not ours any more."""
        ...

    def complete(self, claim: Claim, result: Result) -> bool:
        """Done, for ever. False when it is not ours any more; True again when it was told twice."""
        ...

    def fail(self, claim: Claim, error: str) -> bool:
        """Give up with a reason; anybody may claim it again."""
        ...

    def release(self, claim: Claim) -> bool:
        """Give it back untouched; anybody may claim it at once."""
        ...

    def read(self, prefix: str) -> list[ClaimRow]:
        """All rows whose key begins so, in key order; sees every write that was acknowledged."""
        ...


_TABLE = """CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, attempts INTEGER NOT NULL, owner TEXT,
    claimed_ms INTEGER, until_ms INTEGER, ended_ms INTEGER, result TEXT, error TEXT
) WITHOUT ROWID"""

# One statement, so that no other process can come between looking and taking.
_CLAIM = """INSERT INTO claims (key, state, attempts, owner, claimed_ms, until_ms)
VALUES (:key, 'claimed', 1, :owner, :now, :until)
ON CONFLICT (key) DO UPDATE SET state = 'claimed', attempts = attempts + 1, owner = excluded.owner,
    claimed_ms = excluded.claimed_ms, until_ms = excluded.until_ms, ended_ms = NULL, error = NULL
WHERE state IN ('planned', 'failed')
    OR (state = 'claimed' AND (owner = excluded.owner OR until_ms <= excluded.claimed_ms))
RETURNING attempts"""

_RENEW = """UPDATE claims SET until_ms = :until
WHERE key = :key AND state = 'claimed' AND attempts = :attempt RETURNING 1"""
_END = """UPDATE claims
SET state = :state, until_ms = NULL, ended_ms = :now, result = :result, error = :error
WHERE key = :key AND state = 'claimed' AND attempts = :attempt RETURNING 1"""
_ENDED = "SELECT 1 FROM claims WHERE key = :key AND state = :state AND attempts = :attempt"
_COLUMNS = tuple(column.name for column in fields(ClaimRow))
_READ = """SELECT key, state, attempts, owner, claimed_ms, until_ms, ended_ms, result, error
FROM claims WHERE substr(key, 1, :length) = :prefix ORDER BY key"""


class SqliteClaims:
    """Claims in one SQLite file on a local disk, safe between threads and processes."""

    def __init__(self, path: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._connection = self._connect()

    def plan(self, keys: Iterable[str]) -> int:
        rows = [(key,) for key in keys]
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                return self._connection.executemany(
                    "INSERT OR IGNORE INTO claims (key, state, attempts) VALUES (?, 'planned', 0)",
                    rows,
                ).rowcount
            finally:
                self._connection.execute("COMMIT")

    def claim(self, key: str, owner: str, lease_seconds: float) -> Claim | None:
        now, lease_ms = now_ms(self._clock), int(lease_seconds * 1000)
        values = {"key": key, "owner": owner, "now": now, "until": now + lease_ms}
        found = self._run(_CLAIM, values)
        return Claim(key, owner, found[0][0], lease_ms, now + lease_ms) if found else None

    def renew(self, claim: Claim) -> bool:
        until = now_ms(self._clock) + claim.lease_ms
        values = {"key": claim.key, "attempt": claim.attempt, "until": until}
        return bool(self._run(_RENEW, values))

    def complete(self, claim: Claim, result: Result) -> bool:
        return self._end(claim, "done", result=pack_result(result))

    def fail(self, claim: Claim, error: str) -> bool:
        return self._end(claim, "failed", error=shorten(error))

    def release(self, claim: Claim) -> bool:
        return self._end(claim, "planned")

    def read(self, prefix: str) -> list[ClaimRow]:
        return [
            _row(*values) for values in self._run(_READ, {"prefix": prefix, "length": len(prefix)})
        ]

    def close(self) -> None:
        """Close the file; leases in hand live on until they run out."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(
        self, claim: Claim, state: State, result: str | None = None, error: str | None = None
    ) -> bool:
        values = {"key": claim.key, "attempt": claim.attempt, "state": state}
        times = {"now": now_ms(self._clock), "result": result, "error": error}
        return bool(self._run(_END, {**values, **times}) or self._run(_ENDED, values))

    def _run(self, statement: str, values: dict[str, object]) -> list[Any]:
        # fetchall ends the statement: until then SQLite has not committed it.
        with self._lock, self._translated():
            return self._connection.execute(statement, values).fetchall()

    def _connect(self) -> sqlite3.Connection:
        with self._translated():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for attempt in range(100):
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # Two processes that create the file at once: this pragma alone does not wait.
                if attempt == 99 or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                self._clock.sleep(0.05)
        # Survives kill -9. A power cut may lose the last commits: that work is done again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_TABLE)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"cannot create {self._path.parent}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise _translate(error, self._path) from error


def shorten(error: str) -> str:
    """An error's text as it is kept: DynamoDB's items are bounded, and people read the start."""
    return error if len(error) <= ERROR_CHARS else error[: ERROR_CHARS - 1] + "…"


def pack_result(result: Result) -> str:
    """A result as JSON text."""
    return orjson.dumps(dict(result), option=orjson.OPT_SORT_KEYS).decode()


def unpack_result(text: str | None) -> Result:
    """A result read back; empty if there is none."""
    return dict(orjson.loads(text)) if text else {}


def _row(*values: Any) -> ClaimRow:
    named = dict(zip(_COLUMNS, values, strict=True))
    return ClaimRow(**{**named, "result": unpack_result(named["result"])})


def _translate(error: sqlite3.Error, path: Path) -> PipelineError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreUnavailableError(
            f"{path}: another process held it for {BUSY_SECONDS:.0f} s ({error})"
        )
    if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return ConfigError(f"{path}: {error}. The claims need a folder that can be written.")
    if code == sqlite3.SQLITE_FULL:
        return ConfigError(f"{path}: {error}. Free some space; nothing of it is lost.")
    return FatalError(
        f"{path}: {error}. It should be the SQLite file of claims. Move it away to begin anew: "
        "work that was done is then done again, which lands nothing twice."
    )
