"""How many threads suit this process: the cores that it may use, not those of the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cores"]

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """Count the cores that this process may use, after its affinity and the quota of its container.

    ``OMP_NUM_THREADS`` lowers the number further, as it does for other numerical libraries.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text().split()[:2]
        if allowed != "max":
            cores = min(cores, math.ceil(int(allowed) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass  # no container, or none of this kind
    wished = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(cores, int(wished)) if wished.isdigit() else cores)
