"""Lets the tests here, and pytest's search for doctests, import the fuzzer's modules by name."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
