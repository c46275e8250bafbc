"""Percolation of lithium through tetrahedra without transition metal (0-TM channels).

Lithium hops between two nearest octahedral sites through a tetrahedral site; the path is open where none of the four
cations around that site is a transition metal. So two lithium sites are connected if they share a tetrahedron whose
four corners all hold lithium (Li4). A cluster percolates if it reaches its own periodic image: then, and only then,
walking along it leads from a site to the same site of another cell.

References:
    Lee, Urban, Li, Su, Hautier, Ceder, Science 343, 519 (2014).
    Urban, Lee, Ceder, Adv. Energy Mater. 4, 1400478 (2014).
    Machta et al., Phys. Rev. E 54, 1332 (1996): wrapping clusters by the displacements along a spanning tree.
    Wang, Zhou, Zhang, Garoni, Deng, Phys. Rev. E 87, 052107 (2013): ν = 0.8762 in three dimensions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from jaxmlip.cathodes.disorder.order import Tetrahedra
from jaxmlip.cathodes.disorder.statistics import Estimate

CORRELATION_EXPONENT = 0.8762
"""ν of percolation in three dimensions."""
_PAIRS = np.array([(0, 1), (0, 2), (0, 3)])  # that join the corners of a tetrahedron


class Percolation(NamedTuple):
    """Clusters of one configuration."""

    percolates: bool
    fraction: float
    """Of the sites in question (lithium) that lie in a percolating cluster."""
    n_clusters: int


def zero_tm_percolation(tetrahedra: Tetrahedra, lithium: Bool[np.ndarray, " n_sites"]) -> Percolation:
    """Clusters of lithium joined by Li4 tetrahedra, and which of them percolate.

    >>> import ase.build
    >>> from jaxmlip.cathodes.disorder.order import tetrahedra_of
    >>> found = tetrahedra_of(ase.build.bulk("Cu", cubic=True))
    >>> zero_tm_percolation(found, np.array([True] * 4)).fraction, zero_tm_percolation(found, np.arange(4) > 0).fraction
    (1.0, 0.0)

    Args:
        tetrahedra: of the cation sites.
        lithium: which sites hold lithium (vacancies that lithium left may count too).
    """
    open_ones = np.flatnonzero(lithium[tetrahedra.corners].all(axis=1))
    n_sites, n_lithium = len(lithium), int(lithium.sum())
    if not len(open_ones):
        return Percolation(False, 0.0, n_lithium)
    ends = tetrahedra.corners[open_ones][:, _PAIRS].reshape(-1, 2)
    images = tetrahedra.images[open_ones][:, _PAIRS]
    shifts = (images[:, :, 1] - images[:, :, 0]).reshape(-1, 3)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n_sites, n_sites)).tocsr()
    n_clusters, cluster = connected_components(graph, directed=False)
    wrapping = np.zeros(n_clusters, bool)
    displacement = _displacements(ends, shifts, cluster, n_clusters)
    closes = (displacement[ends[:, 0]] + shifts != displacement[ends[:, 1]]).any(axis=1)
    wrapping[cluster[ends[closes, 0]]] = True
    inside = wrapping[cluster] & lithium
    n_clusters -= int((~lithium).sum())  # each other site is alone
    return Percolation(bool(wrapping.any()), float(inside.sum()) / max(n_lithium, 1), n_clusters)


def percolating_fraction(
    tetrahedra: Tetrahedra, numbers: Integer[np.ndarray, "n_samples n_chains n_sites"]
) -> Float[np.ndarray, "n_samples n_chains"]:
    """Fraction of lithium in percolating 0-TM clusters of each sample.

    >>> import ase.build
    >>> from jaxmlip.cathodes.disorder.order import tetrahedra_of
    >>> found = tetrahedra_of(ase.build.bulk("Cu", cubic=True))
    >>> percolating_fraction(found, np.array([[[3, 3, 3, 3], [3, 3, 3, 25]]])).tolist()
    [[1.0, 0.0]]
    """
    lithium = np.asarray(numbers) == 3
    flat = lithium.reshape(-1, lithium.shape[-1])
    found = [zero_tm_percolation(tetrahedra, one).fraction for one in flat]
    return np.array(found).reshape(lithium.shape[:-1])


def threshold_content(tetrahedra: Tetrahedra, n_sites: int, rng: np.random.Generator) -> float:
    """The content of cation sites at which lithium, put on sites in a random order, first percolates.

    >>> import ase.build
    >>> from jaxmlip.cathodes.disorder.order import tetrahedra_of
    >>> found = tetrahedra_of(ase.build.bulk("Cu", cubic=True))
    >>> threshold_content(found, 4, np.random.default_rng(0))
    1.0
    """
    order = rng.permutation(n_sites)
    low, high = 0, n_sites
    while high - low > 1:  # percolation stays once it is there: more lithium opens more tetrahedra
        middle = (low + high) // 2
        lithium = np.zeros(n_sites, bool)
        lithium[order[:middle]] = True
        if zero_tm_percolation(tetrahedra, lithium).percolates:
            high = middle
        else:
            low = middle
    return high / n_sites


def finite_size_threshold(lengths: Sequence[int | float], contents: Sequence[Float[np.ndarray, " n"]]) -> Estimate:
    """The threshold of an infinite crystal from random orders in cells of several lengths.

    The mean threshold of a cell of length L differs from that of L → ∞ by a multiple of L^{−1/ν}: a straight line,
    weighted by the standard errors, whose value at L^{−1/ν} = 0 is the threshold.

    >>> contents = [0.5 + length ** (-1 / CORRELATION_EXPONENT) + np.array([-0.01, 0.01]) for length in (4, 8, 16)]
    >>> round(float(finite_size_threshold((4, 8, 16), contents).mean), 6)
    0.5

    Args:
        lengths: of the cells, in any unit.
        contents: for each length, results of `threshold_content`.

    Raises:
        ValueError: fewer than two lengths.

    References:
        Stauffer and Aharony, Introduction to Percolation Theory (1994), section 4.1.
    """
    if len(lengths) < 2:
        raise ValueError(f"an extrapolation needs cells of at least two lengths, got {len(lengths)}")
    x = np.asarray(lengths, float) ** (-1 / CORRELATION_EXPONENT)
    means = np.array([np.mean(one) for one in contents])
    errors = np.array([np.std(one, ddof=1) / np.sqrt(len(one)) for one in contents])
    design = np.stack([np.ones(len(x)), x], axis=1) / errors[:, None]
    covariance = np.linalg.inv(design.T @ design)
    intercept = (covariance @ design.T @ (means / errors))[0]
    return Estimate(np.array(intercept), np.sqrt(covariance[0, 0]), np.array(0.5))


def _displacements(ends: np.ndarray, shifts: np.ndarray, cluster: np.ndarray, n_clusters: int) -> np.ndarray:
    """Cells from the root of each cluster to its sites along a spanning tree, ``[n_sites, 3]``."""
    n_sites = len(cluster)
    roots = np.full(n_clusters, -1)
    roots[cluster[::-1]] = np.arange(n_sites)[::-1]
    both, steps = np.concatenate([ends, ends[:, ::-1]]), np.concatenate([shifts, -shifts])
    keys, which = np.unique(both[:, 0] * n_sites + both[:, 1], return_index=True)  # one of several images suffices
    rows = np.concatenate([keys // n_sites, np.full(n_clusters, n_sites)])
    columns = np.concatenate([keys % n_sites, roots])
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n_sites + 1, n_sites + 1)).tocsr()
    before = breadth_first_order(graph, n_sites, return_predecessors=True)[1][:n_sites]
    displacement = np.zeros((n_sites + 1, 3), int)
    inner = np.flatnonzero(before < n_sites)
    edge = which[np.searchsorted(keys, before[inner] * n_sites + inner)]
    displacement[inner] = steps[edge]
    before = np.append(before, n_sites)
    before[before < 0] = n_sites
    while (before < n_sites).any():  # halves the way to the root
        displacement = displacement + displacement[before]
        before = before[before]
    return displacement[:n_sites]
