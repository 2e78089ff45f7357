"""dbt's command line, as the process that `dbt_process` starts: `python -m batch.gold.dbt_main`.

dbt-athena opens an AWS session for each statement, and each session reads botocore's descriptions
of the services anew: three quarters of the CPU time of a build. Here all sessions share one reader.
"""

from __future__ import annotations

import functools

import botocore.session
from dbt.cli.main import cli


def main() -> None:
    """Run dbt with this process's arguments; it exits by itself."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    cli()


if __name__ == "__main__":
    main()
