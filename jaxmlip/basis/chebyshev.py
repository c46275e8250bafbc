"""Chebyshev polynomials of the first kind, and how a few of them span many through their products."""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float


def chebyshev(x: Any, highest: int) -> list[Any]:
    """T_0 … T_highest of ``x`` (first kind).

    >>> chebyshev(0.5, 3)
    [1.0, 0.5, -0.5, -1.0]
    """
    return recurrence(x, x**0, x, highest)


def recurrence(x: Any, first: Any, second: Any, highest: int) -> list[Any]:
    """P_0 … P_highest from P_0 and P_1 by P_n = 2 x P_{n−1} − P_{n−2}: Chebyshev's, times a common factor.

    T_n from 1 and x; U_n, the second kind, from 1 and 2 x.
    """
    result = [first, second]
    for _ in range(2, highest + 1):
        result.append(2 * x * result[-1] - result[-2])
    return result[: highest + 1]


def chebyshev_factors(x: Any, highest: int) -> tuple[list[Any], list[Any]]:
    """Two short lists whose products span T_0 … T_highest: T_0, T_p, T_2p, … and T_0 … T_{p−1} (`unfolding`).

    A sum over neighbours of all products is then one small matrix product an atom: for 17 polynomials 5 × 4.
    """
    p = _step(highest)
    low = chebyshev(x, p)
    return chebyshev(low[p], highest // p), low[:p]


@lru_cache
def unfolding(highest: int) -> Float[np.ndarray, "n_products n_polynomials"]:
    """The matrix that turns products of `chebyshev_factors`, row by row, into T_0 … T_highest.

    2 T_a T_b = T_{a+b} + T_{|a−b|}, solved for the polynomials.
    """
    p = _step(highest)
    n_products = (highest // p + 1) * p
    products = np.zeros((n_products, n_products))
    for row in range(n_products):
        a, b = row // p * p, row % p
        products[row, a + b] += 0.5
        products[row, abs(a - b)] += 0.5
    return np.linalg.inv(products)[: highest + 1].T


def _step(highest: int) -> int:
    return max(1, int(np.sqrt(highest + 1)))
