"""`python -m batch.cli`: the same command line where no script is installed."""

from __future__ import annotations

from batch.cli import main

if __name__ == "__main__":
    main()
