"""Whatever owners do in whatever order, a claim is one's own, done stays done, attempts grow.

The machine keeps its own idea of who may do what; the ledger (SQLite) must agree at every step.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from batch.backfill.claims import Claim, ClaimRow, SqliteClaims
from stream.clock import ManualClock, now_ms

KEYS = st.sampled_from(["s/d/v1/1", "s/d/v1/2"])
OWNERS = st.sampled_from(["one", "two", "three"])
LEASE = 10


class ClaimsMachine(RuleBasedStateMachine):
    """Owners that claim, renew, end, come back late, and a clock that jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock(10**18)
        self.claims = SqliteClaims(Path(self.folder.name) / "claims.db", self.clock)
        self.given: list[Claim] = []
        self.newest: dict[str, Claim] = {}
        self.until_ms: dict[str, int] = {}
        self.open: dict[str, bool] = {}
        self.done: dict[str, dict[str, int]] = {}
        self.seen: dict[str, ClaimRow] = {}

    def teardown(self) -> None:
        self.claims.close()
        self.folder.cleanup()

    @rule(key=KEYS, owner=OWNERS)
    def claim(self, key: str, owner: str) -> None:
        claim = self.claims.claim(key, owner, LEASE)
        newest = self.newest.get(key)
        held = self.open.get(key, False) and now_ms(self.clock) < self.until_ms[key]
        is_free = not held or (newest is not None and newest.owner == owner)
        assert (claim is not None) == (is_free and key not in self.done)
        if claim is not None:
            assert claim.attempt == (newest.attempt if newest else 0) + 1
            self.given.append(claim)
            self.newest[key], self.open[key] = claim, True
            self.until_ms[key] = claim.until_ms

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        if claim := self._pick(data):
            assert self.claims.renew(claim) == self._is_ours(claim)
            if self._is_ours(claim):
                self.until_ms[claim.key] = now_ms(self.clock) + LEASE * 1000

    @rule(data=st.data(), rows=st.integers(0, 10**9))
    def complete(self, data: st.DataObject, rows: int) -> None:
        if claim := self._pick(data):
            again = claim.key in self.done and claim == self.newest[claim.key]
            is_ours = self._is_ours(claim)
            assert self.claims.complete(claim, {"rows": rows}) == (is_ours or again)
            if is_ours:
                self.done[claim.key], self.open[claim.key] = {"rows": rows}, False

    @rule(data=st.data(), is_failure=st.booleans())
    def give_up(self, data: st.DataObject, is_failure: bool) -> None:
        if claim := self._pick(data):
            was_ours, before = self._is_ours(claim), self.claims.read(claim.key)
            end = self.claims.fail if is_failure else lambda c, _: self.claims.release(c)
            told = end(claim, "no")
            if was_ours:
                assert told
                self.open[claim.key] = False
            else:
                assert self.claims.read(claim.key) == before, "a refused verb changed the row"

    @rule(key=KEYS)
    def plan(self, key: str) -> None:
        is_new = not self.claims.read(key)
        assert self.claims.plan([key]) == int(is_new)

    @rule(seconds=st.sampled_from([0.001, 1, LEASE - 0.001, LEASE, 5 * LEASE]))
    def wait(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @invariant()
    def rows_only_move_forward(self) -> None:
        for row in self.claims.read("s/"):
            before = self.seen.get(row.key, ClaimRow(row.key))
            assert row.attempts >= before.attempts
            if before.state == "done":
                assert row == before
            assert (row.state == "done") == (row.key in self.done)
            assert row.state != "done" or row.result == self.done[row.key]
            assert (row.state == "claimed") == self.open.get(row.key, False)
            self.seen[row.key] = row

    def _pick(self, data: st.DataObject) -> Claim | None:
        """Any claim that was ever given, zombies included."""
        return data.draw(st.sampled_from(self.given)) if self.given else None

    def _is_ours(self, claim: Claim) -> bool:
        return self.open[claim.key] and claim == self.newest[claim.key]


TestClaimsMachine = ClaimsMachine.TestCase
TestClaimsMachine.settings = settings(max_examples=60, stateful_step_count=40)
