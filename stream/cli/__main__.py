"""`python -m stream.cli`: the same as `headrace`, wherever this Python finds the package."""

from __future__ import annotations

from stream.cli import main

if __name__ == "__main__":
    main()
