"""Prove that nothing is missing and nothing is doubled: reconcile a feed's lake with its ledger.

    ledger chain ─▶ slices of the range ─▶ Bronze objects   rehashed, recounted
          │                            └▶ quarantine        rehashed, recounted
          └───────▶ rows per slice ─────▶ Silver snapshot   rehashed, recounted, no key twice

The verdict is "equal" or a list of named differences: what, where, expected, found, what to do.
Objects are streamed through a few threads and the ledger is walked newest first, so memory does
not grow with the lake beyond a few hundred bytes per slice.
Not here: repair. Nothing is written, moved or deleted.
"""

from stream.prove.proof import Difference as Difference
from stream.prove.proof import Note as Note
from stream.prove.proof import Proof as Proof
from stream.prove.proof import Totals as Totals
from stream.prove.proof import render_proof as render_proof
from stream.prove.reconcile import prove as prove
from stream.prove.reconcile import prove_lake as prove_lake
