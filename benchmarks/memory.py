"""How much a process's peak memory grows while it works; both memory benchmarks ask in a fresh interpreter."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

#: Environment to start the interpreter in: every large array is mapped on its own and unmapped when freed, so that the
#: process's size is that of its arrays.
ENVIRONMENT = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}


def growth(work: Callable[[], Any]) -> tuple[int, Any]:
    """Return by how many bytes this process's peak memory grows during the work, and what the work returns."""
    # Loading the packages has peaked above the present size. Filled up to that peak, any growth beyond it is seen.
    ballast = np.ones(max(0, _peak() - psutil.Process().memory_info().rss), dtype=np.uint8)
    before = _peak()
    answer = work()
    grown = _peak() - before
    del ballast
    return grown, answer


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
