"""The process that the MultiLangDaemon starts for one shard: `python -m stream.archive.child FEED`.

Talks to the daemon over stdin and stdout, so its log goes to stderr. A failure ends the process:
the library would pass over the batch otherwise.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from stream.archive.place import ArchivePlace
from stream.archive.processor import ArchiveRun, Dialect, RecordProcessor
from stream.clock import SYSTEM_CLOCK
from stream.settings import load_settings
from stream.telemetry import set_up_logging


class _EndingRun(ArchiveRun):
    """A failure is this process's end, seen by the daemon."""

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        sys.exit(f"headrace: {error}")


def main(arguments: Sequence[str]) -> None:
    """Archive the shard that the daemon names."""
    feed = arguments[0]
    settings = load_settings()
    set_up_logging(settings.log_level, settings.log_format, None, secrets=())
    kcl = importlib.import_module("amazon_kclpy.kcl")
    processor = RecordProcessor(
        ArchivePlace(settings, feed),
        _EndingRun(),
        Dialect(_arrival_seconds, kcl.CheckpointError),
        grace_ms=settings.grace_ms,
        poll_ms=settings.archive_poll_ms,
        clock=SYSTEM_CLOCK,
    )
    kcl.KCLProcess(processor).run()


def _arrival_seconds(record: Any) -> float:
    return float(record.timestamp_millis / 1000)


if __name__ == "__main__":
    main(sys.argv[1:])
