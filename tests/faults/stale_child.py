"""`headrace run` whose catalog shows an older state of each table now and then, for a while.

As a replica that lags does: what is read may be a few versions old; what is written is checked
against the truth, so a commit on top of an old state is refused. Arguments: as of `headrace`.
"""

from __future__ import annotations

import os
import random
import sys
from collections import defaultdict, deque
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table

from stream.cli import headrace
from stream.cli.failure import run_command

STALE_SHARE = 0.4
VERSIONS_BEHIND = 3

_load = SqlCatalog.load_table
_commit = SqlCatalog.commit_table
_history: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=VERSIONS_BEHIND + 1))
_luck = random.Random(os.environ.get("STALE_SEED", "1"))
_is_committing = False


def load_table(self: SqlCatalog, identifier: Any) -> Table:
    """The table as it is, or, now and then, as it was."""
    table = _load(self, identifier)
    seen = _history[str(identifier)]
    if not seen or seen[-1] != table.metadata_location:
        seen.append(table.metadata_location)
    if _is_committing or len(seen) == 1 or _luck.random() >= STALE_SHARE:
        return table
    location = _luck.choice(list(seen)[:-1])
    file = load_file_io(self.properties, location).new_input(location)
    sys.stderr.write(f"stale: {identifier} as of {location.rpartition('/')[2][:5]}\n")
    return Table(
        identifier=table.name(),
        metadata=FromInputFile.table_metadata(file),
        metadata_location=location,
        io=table.io,
        catalog=self,
    )


def commit_table(self: SqlCatalog, *arguments: Any, **named: Any) -> Any:
    """The one place where the truth is compared: never stale."""
    global _is_committing  # noqa: PLW0603
    _is_committing = True
    try:
        return _commit(self, *arguments, **named)
    finally:
        _is_committing = False


if __name__ == "__main__":
    SqlCatalog.load_table = load_table  # type: ignore[method-assign]
    SqlCatalog.commit_table = commit_table  # type: ignore[method-assign]
    sys.exit(run_command(headrace, sys.argv[1:]))
