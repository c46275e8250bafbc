"""Processor and wall time of an action, in seconds."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def timed(action: Callable[[], Any]) -> dict[str, float]:
    """What one call costs; processor time counts all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def median(times: list[dict[str, float]]) -> dict[str, float]:
    """Of each clock for itself."""
    return {name: statistics.median(one[name] for one in times) for name in ("cpu", "wall")}
