"""Forget compiled programs before a long run has more of them than the system can hold.

XLA maps each compiled CPU program into memory of its own, some ten maps a program; Linux allows a process 65,530 maps
(``vm.max_map_count``) and JAX crashes, without a word, on the first beyond. A study or a search
of a hundred fits gets there.
"""

from contextlib import suppress
from pathlib import Path

import jax

MOST_MAPS = 20_000
"""Programs of about 3 GB."""


def forget_programs(most: int = MOST_MAPS) -> bool:
    """Clear JAX's caches if this process has more than ``most`` memory maps; say whether they were cleared.

    Programs still wanted are compiled again, or read from the persistent cache. Nothing happens where the system does
    not tell (not Linux).

    >>> forget_programs(10**9)
    False
    """
    if memory_maps() <= most:
        return False
    jax.clear_caches()
    return True


def memory_maps() -> int:
    """Of this process; 0 where the system does not tell."""
    with suppress(OSError), Path("/proc/self/maps").open("rb") as file:
        return sum(1 for _ in file)
    return 0
