"""Install the peers, each group in an environment of its own, from pinned and hashed requirements.

    python tests/benchmarks/peers/install.py              all of them: 2.5 GB, minutes
    python tests/benchmarks/peers/install.py --only flink

They lie below the environment that runs this (`.venv/peers`, `.venv/flink`), because they want
versions that headrace must not have. Spark and Flink need Java 17 as well. DuckDB and Bytewax are
headrace's own and need nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = {"peers": "requirements.txt", "flink": "flink.txt"}


def main() -> None:
    """Make the environments anew and install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=tuple(REQUIREMENTS))
    options = parser.parse_args()
    for name, file in REQUIREMENTS.items():
        if options.only in (None, name):
            folder = Path(sys.prefix) / name
            venv.create(folder, clear=True, with_pip=True)
            requirements = str(Path(__file__).with_name(file))
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*command, "--require-hashes", "-r", requirements], check=True)
            print(f"installed {folder}")


if __name__ == "__main__":
    main()
