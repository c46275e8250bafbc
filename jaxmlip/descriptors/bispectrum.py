"""Bispectrum components of the neighbour density on the 3-sphere, as LAMMPS defines them (SNAP).

The density's expansion U^j = 1 + Σ_k f_c(r_ik) w_k u^j(r_ik) is a function on the rotation group,
f_j(R) = Σ_{m'm} U^j[m', m] u^j[m', m](R). Products of Clebsch-Gordan coefficients are integrals of three Wigner
functions, so the bispectrum is a triple correlation,

    B_{j1 j2 j} = Σ conj(U^j) (C ⊗ C) U^{j1} U^{j2} = (j + 1) ∫ f_{j1} f_{j2} f_j dR,

and an exact quadrature turns it into one matrix product a level and products of real numbers.

References:
    Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), equation 21.
    Thompson et al., J. Comput. Phys. 285, 316 (2015), equations 3-9.
    Cusentino, Wood, Thompson, J. Phys. Chem. A 124, 5456 (2020), equation 8 (several element channels).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxmlip.basis.wigner import Level, rotation_quadrature, wigner_u


class PairGeometry(NamedTuple):
    """What the map of a pair to the 3-sphere needs, each ``[...]``."""

    cutoff: Float[Array, "..."]  # R_ij, Å
    weight: Float[Array, "..."]  # of the neighbour
    inner: tuple[Float[Array, "..."], Float[Array, "..."]] | None = None  # S_ij, D_ij of the inner switch, Å


def bispectrum_indices(twojmax: int) -> list[tuple[int, int, int]]:
    """(j1, j2, j) with j ≥ j1 ≥ j2 in LAMMPS's order; 30 for twojmax 6, 55 for 8.

    >>> bispectrum_indices(2)
    [(0, 0, 0), (1, 0, 1), (1, 1, 2), (2, 0, 2), (2, 2, 2)]
    """
    return [
        (j1, j2, j)
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
        if j >= j1
    ]


def density(
    vectors: Float[Array, "3 ..."], pair: PairGeometry, mask: Bool[Array, "..."], config
) -> list[Level]:
    """f_c(r) w u^j(r) of each pair for j = 0 … twojmax, exactly zero where ``mask`` is False or r > R_ij.

    θ0 = rfac0 π (r − rmin0)/(R_ij − rmin0), a = cos θ0 − i sin θ0 z/r, b = sin θ0 (y − i x)/r.
    """
    r = jnp.sqrt(jnp.sum(vectors**2, axis=0))
    x, y, z = vectors / r
    reduced = (r - config.rmin0) / (pair.cutoff - config.rmin0)
    inside = mask & (r < pair.cutoff)
    theta0 = config.rfac0 * np.pi * reduced
    sine = jnp.sin(theta0)
    weight = jnp.where(inside, _switch(r, reduced, pair, config) * pair.weight, 0)
    return wigner_u((jnp.cos(theta0), -sine * z), (sine * y, -sine * x), weight, config.twojmax)


def _switch(r: Array, reduced: Array, pair: PairGeometry, config) -> Array:
    """LAMMPS's outer switch (1 + cos π x)/2, times the inner one where the model has it."""
    value = jnp.ones_like(r)
    if config.switchflag:
        value = jnp.where(reduced <= 0, 1, (1 + jnp.cos(np.pi * reduced)) / 2)
    if pair.inner is not None:
        middle, half_width = pair.inner
        phase = jnp.clip((r - middle) / half_width, -1, 1)
        value = value * (1 - jnp.cos(np.pi / 2 * (1 + phase))) / 2
    return value


def pack(levels: list[Level]) -> Float[Array, "n_components ..."]:
    """All levels in one array: for each j the real, then the imaginary parts of the kept rows."""
    free = levels[0][0].shape[2:]
    return jnp.concatenate([part.reshape(-1, *free) for level in levels for part in level])


def component_slices(twojmax: int) -> list[slice]:
    """Where each level stands in `pack`'s first axis."""
    ends = np.cumsum([0] + [2 * (j // 2 + 1) * (j + 1) for j in range(twojmax + 1)])
    return [slice(int(ends[j]), int(ends[j + 1])) for j in range(twojmax + 1)]


def identity(twojmax: int) -> Float[np.ndarray, " n_components"]:
    """The central atom's own contribution to U, the unit matrix of each level, packed."""
    levels = []
    for j in range(twojmax + 1):
        re = np.eye(j // 2 + 1, j + 1)
        levels += [re.ravel(), np.zeros(re.size)]
    return np.concatenate(levels)


def bispectrum(
    total: Float[Array, "n_components n_channels n_atoms"], config
) -> Float[Array, "n_invariants n_atoms"]:
    """The components B of a summed density (self term included), LAMMPS's order; channels (e f g) slowest.

    ``bnormflag`` divides by j + 1. ``bzeroflag`` is the caller's, since it depends on the central element.
    """
    quadrature = rotation_quadrature(config.twojmax)
    weights = jnp.asarray(quadrature.weights, total.dtype)[:, None, None]
    f = []
    for table, part in zip(quadrature.synthesis, component_slices(config.twojmax)):
        f.append(jnp.tensordot(jnp.asarray(table, total.dtype), total[part], axes=1))  # [n_points, channels, atoms]
    n_channels, n_atoms = total.shape[1:]
    weighted = [weights * f_j for f_j in f]
    components = []
    for j1, j2, j in bispectrum_indices(config.twojmax):
        scale = 1.0 if config.bnormflag else j + 1.0
        triple = jnp.einsum("qea,qfa,qga->efga", f[j1], f[j2], scale * weighted[j]) if n_channels > 1 else scale * (
            jnp.sum(f[j1] * f[j2] * weighted[j], axis=0)
        )
        components.append(triple.reshape(-1, n_atoms))
    return jnp.stack(components, axis=1).reshape(-1, n_atoms)
