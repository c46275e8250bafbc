"""Structure of occupations: short-range order, tetrahedra, percolation, against exact and published numbers."""

import ase.build
import numpy as np
import pytest

from jaxmlip.cathodes.disorder import (
    estimate,
    finite_size_threshold,
    random_tetrahedra,
    rocksalt,
    tetrahedra_of,
    tetrahedron_fractions,
    threshold_content,
    warren_cowley,
    zero_tm_percolation,
)
from jaxmlip.cathodes.structures import layered


def cations(n):
    return ase.build.bulk("Cu", cubic=True).repeat(n)


def shuffled(sites, n_samples, content, seed=0):
    """Random occupations of the cation sites of fixed content, ``[n_samples, 1, n_sites]``."""
    part = sites.sublattices[0].sites
    numbers = np.full((n_samples, 1, len(sites.frame)), 8)
    kinds = np.where(np.arange(len(part)) < round(content * len(part)), 3, 25)
    rng = np.random.default_rng(seed)
    for one in numbers[:, 0]:
        one[part] = rng.permutation(kinds)
    return numbers


def test_random_occupations_have_no_order():
    """α = −1/(N − 1) for a fixed composition, and Li4 in x⁴ of the tetrahedra: within four standard errors."""
    sites = rocksalt("LiMnO2", repeat=(3, 3, 3))
    content, n = 0.55, 108
    numbers = shuffled(sites, 60, content)
    found = warren_cowley(sites, numbers)
    np.testing.assert_allclose(found.distances, 4.2 * np.sqrt([0.5, 1, 1.5]), atol=1e-9)
    assert np.all(np.abs(found.alpha.mean[:, 0, 1] + 1 / (n - 1)) < 4 * found.alpha.error[:, 0, 1])
    part = sites.sublattices[0].sites
    tetrahedra = tetrahedra_of(sites.frame[part])
    fractions = tetrahedron_fractions(tetrahedra, numbers[:, :, part])
    x = round(content * n) / n
    exact = x * (x - 1 / n) * (x - 2 / n) * (x - 3 / n) / ((1 - 1 / n) * (1 - 2 / n) * (1 - 3 / n))  # no replacement
    assert abs(fractions.mean[4] - exact) < 4 * fractions.error[4]
    assert fractions.mean.sum() == pytest.approx(1)
    assert exact == pytest.approx(random_tetrahedra(x)[4], abs=0.01)


def test_order_of_a_layered_oxide_is_known():
    """L1_1 of cations: of 12 neighbours of lithium 6 are lithium, of the second shell of 6 none."""
    frame = layered("Co").repeat((2, 2, 2))
    part = np.isin(frame.get_chemical_symbols(), ["Li", "Co"])
    tetrahedra = tetrahedra_of(frame[part])
    assert len(tetrahedra.corners) == 2 * part.sum()
    fractions = tetrahedron_fractions(tetrahedra, frame.numbers[part][None].repeat(2, axis=0)[:, None])
    np.testing.assert_allclose(fractions.mean, [0, 0.5, 0, 0.5, 0])  # Li1 and Li3: no 0-TM site in a layered oxide


def test_alternating_layers_order_the_shells():
    sites = rocksalt("LiMnO2", repeat=(2, 2, 2))
    z = np.round(sites.frame.positions[:, 2] / 2.1).astype(int)
    numbers = np.where(z % 2 == 0, 3, 25)
    numbers[sites.sublattices[1].sites] = 8
    found = warren_cowley(sites, np.tile(numbers, (2, 1, 1)), n_shells=2)
    np.testing.assert_allclose(found.alpha.mean[:, 0, 1], [1 - 2 * 8 / 12, 1])  # L1_0: 8 of 12 unlike, then none
    assert np.all(found.alpha.error == 0)


def test_a_cluster_percolates_only_if_it_comes_back_to_its_image():
    """Lithium everywhere, between layers of metal, and in a box of metal."""
    frame = cations((4, 2, 2))
    tetrahedra = tetrahedra_of(frame)
    everything = np.ones(len(frame), bool)
    assert zero_tm_percolation(tetrahedra, everything) == (True, 1.0, 1)
    blocked = (frame.positions > 0.1).all(axis=1)  # layers of transition metal across each direction
    assert not zero_tm_percolation(tetrahedra, blocked).percolates
    slab = frame.positions[:, 0] > 0.1  # open along y and z
    found = zero_tm_percolation(tetrahedra, slab)
    assert found.percolates
    assert found.fraction == 1.0
    assert zero_tm_percolation(tetrahedra, np.zeros(len(frame), bool)) == (False, 0.0, 0)


def test_threshold_of_random_rocksalts():
    """x = 1.09 in Li_x TM_(2−x) O2 (Lee et al., Science 2014), from two cells.

    Four standard errors of the extrapolation; of the larger cell alone 0.03, for its threshold hardly depends on size.
    """
    rng = np.random.default_rng(1)
    lengths, contents = (4, 6), []
    for n in lengths:
        tetrahedra = tetrahedra_of(cations(n))
        contents.append(np.array([threshold_content(tetrahedra, 4 * n**3, rng) for _ in range(50)]))
    found = finite_size_threshold(lengths, contents)
    assert 2 * float(found.error) < 0.035
    assert abs(2 * float(found.mean) - 1.09) < 4 * 2 * float(found.error)
    assert abs(2 * contents[1].mean() - 1.09) < 0.03
    with pytest.raises(ValueError, match="two lengths"):
        finite_size_threshold([3], contents[:1])


def test_errors_know_of_correlations():
    """An autoregressive series of known autocorrelation time (1 + a) / 2(1 − a): within a quarter."""
    rng, a = np.random.default_rng(0), 0.9
    x = np.zeros((20000, 2))
    for k in range(1, len(x)):
        x[k] = a * x[k - 1] + rng.normal(size=2)
    assert float(estimate(x).time) == pytest.approx((1 + a) / (2 * (1 - a)), rel=0.25)
    assert float(estimate(np.ones((5, 2))).error) == 0
