"""How a process's memory is handed out: small, and given back.

pyarrow's own allocator (mimalloc) and glibc's arenas, one per thread, keep what was freed; with 30
threads that is more than what is in use. One allocator with few arenas, which maps pieces above
1 MB one by one, took a dataflow's peak from 566 to 392 MB in `tests/benchmarks/soak.py --minutes 3
--rate 4000`, and 7 % of the CPU from `headrace bench` (2.14 against 2.32 CPU-s per million).

The variables that do the same, if set, win: ARROW_DEFAULT_MEMORY_POOL and glibc's MALLOC_….
"""

from __future__ import annotations

import ctypes
import os

ARENAS = 2
MAPPED_BYTES = 1 << 20
TRIMMED_BYTES = 16 << 20
_PARAMETERS = {  # of mallopt, in malloc.h
    "MALLOC_ARENA_MAX": (-8, ARENAS),
    "MALLOC_MMAP_THRESHOLD_": (-3, MAPPED_BYTES),
    "MALLOC_TRIM_THRESHOLD_": (-1, TRIMMED_BYTES),
}


def keep_memory_small() -> None:
    """For this process and its children. To be called before pyarrow is imported and before any
    thread starts; without glibc only pyarrow's part is done.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for name, (parameter, value) in _PARAMETERS.items():
        if name not in os.environ:
            mallopt(parameter, value)
