"""Every error of the platform, grouped by consequence: what the caller must do next.

    PipelineError
    ├── ConfigError              refuse to start: the user must change something
    ├── RecordRejected           the record's fault: quarantine it, go on
    ├── QuarantineLimitError     too many rejects: stop the shard, look at the producer
    ├── RetryableError           try again, nothing is lost
    │   ├── ThrottledError           the service asked us to slow down
    │   ├── StoreUnavailableError    the store or the stream did not answer
    │   ├── CommitConflictError      another writer committed first
    │   ├── SealedDifferentlyError   another instance cut this slice elsewhere: restart
    │   ├── ReplayedMeanwhileError   a replay changed what our dedup remembers: restart
    │   └── PeerLostError            another process of the cluster is gone: restart all
    └── FatalError               a person is needed
        ├── PositionExpiredError     records were lost to retention
        ├── OutOfOrderError          a shard's sequence numbers went back
        ├── ImmutableObjectError     a Bronze object would change
        ├── LedgerGapError           a slice does not continue the committed position
        └── CommitUnknownError       the outcome of a commit is unknown: read back first

A message says what, where, what was found and expected, and what to do.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Root of all errors raised on purpose; the CLI prints it as one line, without a traceback."""


class ConfigError(PipelineError):
    """A setting, an argument or a missing resource makes a start pointless."""


class RecordRejected(PipelineError):  # noqa: N818 - a verdict on a record, as in its code
    """One record breaks its contract. `reason` is a stable code, `detail` what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class QuarantineLimitError(PipelineError):
    """The share or the run of rejected records of a shard passed the contract's limit."""


class RetryableError(PipelineError):
    """The same call may succeed later; nothing is lost by waiting."""


class ThrottledError(RetryableError):
    """The service refused the call because of its rate."""


class StoreUnavailableError(RetryableError):
    """The object store, the stream or the catalog did not answer in time."""


class CommitConflictError(RetryableError):
    """Another writer's commit won and ours cannot be rebased; restart from committed positions."""


class SealedDifferentlyError(RetryableError):
    """Bronze already holds this slice with another end; a restart adopts the recorded cut."""


class ReplayedMeanwhileError(RetryableError):
    """A replay changed rows that decided what we dropped; a restart reads them as they are."""


class PeerLostError(RetryableError):
    """Another process of the cluster ended or cannot be reached; all of them must start again."""


class FatalError(PipelineError):
    """The pipeline must stop and a person must look."""


class PositionExpiredError(FatalError):
    """The committed position is older than the stream's retention."""


class OutOfOrderError(FatalError):
    """A shard returned a sequence number that is not greater than the one before."""


class ImmutableObjectError(FatalError):
    """An existing Bronze object holds other content than the one to be written."""


class LedgerGapError(FatalError):
    """A slice's `prev` is ahead of the committed position: records would be skipped."""


class CommitUnknownError(FatalError):
    """A commit was sent and its outcome could not be read back."""
