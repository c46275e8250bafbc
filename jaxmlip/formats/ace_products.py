"""Products of the atomic base with their C̃ coefficients (``.yace``) from coupled functions, and back.

    c̃_p(m) = Σ_L c_{p L} C_L(m)    over functions of equal factors.

Of m and −m, whose products are complex conjugates, one is listed with twice the coefficient, and orders m that differ
by the names of equal factors are added up.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxmlip.descriptors.cluster_functions import Function, Momenta, coefficients, independent

_SAME = 1e-11  # relative to the largest coefficient


class ProductGroup(NamedTuple):
    """Products of equal factors, with n from 0: the orders m of each and its coefficient in each density."""

    channels: tuple[int, ...]
    ns: tuple[int, ...]
    ls: Momenta
    orders: Int[np.ndarray, "n_products rank"]
    coefficients: Float[np.ndarray, "n_products n_densities"]


def couple(entries: Sequence[ProductGroup]) -> Iterator[tuple[tuple[int, ...], list[tuple[Function, list[float]]]]]:
    """Channels, and functions with their coefficients, of each entry.

    Where the products are no sum of coupled functions they stay as they are, one function each.
    """
    for entry in entries:
        found = _coupled(entry)
        if found is None:
            rows = zip(entry.orders.tolist(), entry.coefficients.tolist())
            found = [(Function((), entry.ns, entry.ls, (), tuple(m)), c) for m, c in rows]
        yield entry.channels, found


def _coupled(entry: ProductGroup) -> list[tuple[Function, list[float]]] | None:
    """The coupled functions whose sum the products are; None: they are not."""
    if len(entry.ls) == 1:
        return (
            [(Function((), entry.ns, entry.ls), entry.coefficients.sum(axis=0).tolist())] if not entry.ls[0] else None
        )
    if sum(entry.ls) % 2 or entry.orders.sum(axis=1).any() or not len(entry.orders):
        return None
    if len(entry.ls) > 6:
        return None
    names: dict[Momenta, int] = {}
    choices = independent(entry.ls, groups_of(entry))
    tables = [real_products(entry.ls, LS, groups_of(entry)) for LS in choices]
    given = [(_name(tuple(m), groups_of(entry)), c) for m, c in zip(entry.orders.tolist(), entry.coefficients)]
    for name in [name for table in tables for name in table] + [name for name, _ in given]:
        names.setdefault(name, len(names))
    C, target = np.zeros((len(names), len(choices))), np.zeros((len(names), entry.coefficients.shape[1]))
    for k, table in enumerate(tables):
        C[[names[name] for name in table], k] = list(table.values())
    for name, c in given:
        target[names[name]] += c
    solution = np.linalg.lstsq(C, target, rcond=1e-10)[0]
    if np.abs(C @ solution - target).max(initial=0) > _SAME * np.abs(target).max(initial=0):
        return None
    return [(Function((), entry.ns, entry.ls, LS), c.tolist()) for LS, c in zip(choices, solution)]


def groups_of(factors: Function | ProductGroup) -> tuple[int, ...]:
    """Equal factors by the place of the first of them.

    >>> groups_of(Function((0, 1, 0), (2, 2, 2), (1, 1, 1), (1,)))
    (0, 1, 0)
    """
    slots = list(zip(factors.channels, factors.ns, factors.ls))
    return tuple(slots.index(slot) for slot in slots)


def real_products(ls: Momenta, couplings: Momenta, groups: tuple[int, ...]) -> dict[Momenta, float]:
    """C(m) of the products Re Π A_m that are different, of m and −m and of equal factors one."""
    found: dict[Momenta, float] = {}
    for ms, c in coefficients(ls, couplings).items():
        name = _name(ms, groups)
        found[name] = found.get(name, 0.0) + c
    return {name: c for name, c in found.items() if abs(c) > 1e-14}


def _name(ms: Momenta, groups: tuple[int, ...]) -> Momenta:
    """One of all m that give the same product, for m that add up to 0."""
    return max(_sorted(ms, groups), _sorted(tuple(-m for m in ms), groups))


def _sorted(ms: Momenta, groups: tuple[int, ...]) -> Momenta:
    """The m of equal factors in order."""
    result = list(ms)
    for group in set(groups):
        places = [k for k, g in enumerate(groups) if g == group]
        for k, m in zip(places, sorted(ms[k] for k in places)):
            result[k] = m
    return tuple(result)
