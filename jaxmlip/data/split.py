"""Training and test sets, the same on every machine for a seed (NumPy's PCG64).

A random split of trajectories or of relaxations puts near twins on both sides and flatters the errors; a group split
keeps each group (composition, trajectory, a key of ``info``) on one side. `jaxmlip.data.leakage` shows which is needed.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from jaxmlip.config import unknown_name
from jaxmlip.data.duplicates import trajectories

Indices = NDArray[np.int64]


class Split(NamedTuple):
    """Positions in the list that was split, each sorted; together they are all of it."""

    train: Indices
    test: Indices


def split(frames: Sequence[Atoms], *, test: float | int = 0.2, by: str = "random", seed: int = 0) -> Split:
    """A training and a test set of ``frames``, neither empty.

    Args:
        frames: at least two structures.
        test: fraction of the structures below 1, or their number. Groups stay whole, so with them it is met roughly.
        by: "random"; "composition" (reduced formula); "trajectory" (near twins, `jaxmlip.data.trajectories`); or a key
            of ``info`` such as "composition_id" or "group".
        seed: another seed gives another split.

    >>> from ase.build import bulk
    >>> frames = [bulk(name) for name in ("Mo", "W", "Si", "Mo", "Cu")]
    >>> split(frames, test=2)
    Split(train=array([0, 1, 4]), test=array([2, 3]))
    >>> split(frames, test=2, by="composition")
    Split(train=array([0, 1, 3]), test=array([2, 4]))

    Raises:
        ValueError: too few structures or groups, an impossible size of the test set, or an unknown ``by``.
    """
    if by == "random":
        return random_split(len(frames), test=test, seed=seed)
    return group_split(groups(frames, by), test=test, seed=seed)


def random_split(n: int, *, test: float | int = 0.2, seed: int = 0) -> Split:
    """A random split of the numbers 0 to ``n`` − 1.

    >>> random_split(10, test=0.3)
    Split(train=array([0, 4, 5, 6, 7, 8, 9]), test=array([1, 2, 3]))

    Raises:
        ValueError: one side would be empty.
    """
    n_test = _n_test(n, test)
    order = _permutation(n, seed)
    return Split(np.sort(order[n_test:]), np.sort(order[:n_test]))


def group_split(groups: Iterable[Hashable], *, test: float | int = 0.2, seed: int = 0) -> Split:
    """A split that keeps the structures of each group together; ``groups`` names the group of each structure.

    Groups are taken for the test set in random order as long as this brings its size nearer to the one asked for.

    >>> group_split(["a", "a", "b", "b", "c"], test=2)
    Split(train=array([0, 1, 2, 3]), test=array([4]))

    Raises:
        ValueError: fewer than two groups, or an impossible size of the test set.
    """
    numbers, members = _members(groups)
    n_test = _n_test(len(numbers), test)
    if len(members) < 2:
        raise ValueError(
            f"all {len(numbers)} structures are in one group, so a group split leaves one side empty; split by another "
            "key, or by='random' (which puts near twins on both sides)"
        )
    chosen: list[int] = []
    size = 0
    for group in _permutation(len(members), seed).tolist():
        larger = size + len(members[group])
        if len(chosen) < len(members) - 1 and abs(larger - n_test) < abs(size - n_test):
            chosen.append(group)
            size = larger
    if not chosen:  # every group is more than twice as large as the test set asked for
        chosen = [int(np.argmin([len(member) for member in members]))]
    is_test = np.isin(numbers, chosen)
    return Split(np.flatnonzero(~is_test), np.flatnonzero(is_test))


def groups(frames: Sequence[Atoms], by: str) -> list[Hashable]:
    """The group of each structure: by "composition", by "trajectory", or by a key of ``info``.

    >>> from ase.build import bulk
    >>> groups([bulk("MgO", "rocksalt", a=4.2), bulk("MgO", "rocksalt", a=4.2) * 2], "composition")
    ['OMg', 'OMg']

    Raises:
        ValueError: no such key, or some structures lack it.
    """
    frames = list(frames)
    if by == "composition":
        return [_reduced_formula(atoms) for atoms in frames]
    if by == "trajectory":
        return list(trajectories(frames).tolist())
    lacking = [index for index, atoms in enumerate(frames) if by not in atoms.info]
    if frames and len(lacking) == len(frames):
        known = ["random", "composition", "trajectory", *sorted({key for atoms in frames for key in atoms.info})]
        raise ValueError(unknown_name("way to split", by, known))
    if lacking:
        raise ValueError(
            f"cannot split by {by!r}: {len(lacking)} of {len(frames)} structures lack it in info, the first is number "
            f"{lacking[0]}; give it to them or split by another key"
        )
    return [str(atoms.info[by]) for atoms in frames]


def _n_test(n: int, test: float | int) -> int:
    """The size of the test set."""
    if n < 2:
        raise ValueError(f"cannot split {n} structure{'' if n == 1 else 's'} into two sets; expected at least 2")
    is_count = isinstance(test, (int, np.integer)) and not isinstance(test, bool)
    if not is_count and not 0 < test < 1:
        raise ValueError(f"test={test!r}: expected a fraction between 0 and 1, or a whole number of structures")
    if is_count and not 0 < test < n:
        raise ValueError(f"test={test}: expected between 1 and {n - 1} of the {n} structures, so that no side is empty")
    return int(test) if is_count else min(max(round(test * n), 1), n - 1)


def _members(names: Iterable[Hashable]) -> tuple[Indices, list[list[int]]]:
    """The number of each structure's group in order of first appearance, and the structures of each group."""
    order: dict[Hashable, int] = {}
    numbers = np.array([order.setdefault(name, len(order)) for name in names], dtype=np.int64)
    members: list[list[int]] = [[] for _ in order]
    for index, number in enumerate(numbers.tolist()):
        members[number].append(index)
    return numbers, members


def _permutation(n: int, seed: int) -> Indices:
    """A random order of 0 … n − 1 from PCG64's raw numbers, the one stream that NumPy promises never to change."""
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable").astype(np.int64)


def _reduced_formula(atoms: Atoms) -> str:
    counts = dict(zip(*np.unique(atoms.numbers, return_counts=True), strict=True))
    divisor = int(np.gcd.reduce(list(counts.values())))
    from ase.data import chemical_symbols

    parts = ((chemical_symbols[z], int(count) // divisor) for z, count in counts.items())
    return "".join(symbol + (str(count) if count > 1 else "") for symbol, count in parts)
