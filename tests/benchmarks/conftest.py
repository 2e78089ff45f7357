"""Lets pytest, which only looks for their doctests, import benchmarks as they import each other."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
