"""Bispectrum components of the neighbour density on the 3-sphere, as LAMMPS defines them (SNAP).

A pair vector becomes a rotation by the angle 2 θ0 about an axis; the weighted density of these points and of the
central atom (no rotation) has the levels f_j(p) = U_j(p_0) + Σ_k f_c(r_ik) w_k U_j(p · p_ik), with U_j Chebyshev's
polynomials of the second kind. They are the expansion in Wigner functions, f_j = Σ_{m'm} U^j[m', m] u^j[m', m];
and since products of Clebsch-Gordan coefficients are integrals of three Wigner functions,

    B_{j1 j2 j} = Σ conj(U^j) (C ⊗ C) U^{j1} U^{j2} = (j + 1) ∫ f_{j1} f_{j2} f_j dp.

An exact quadrature turns this triple correlation into one matrix product a level and products of real numbers.

References:
    Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), equation 21.
    Thompson et al., J. Comput. Phys. 285, 316 (2015), equations 3-9.
    Cusentino, Wood, Thompson, J. Phys. Chem. A 124, 5456 (2020), equation 8 (several element channels).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxmlip.basis.hyperspherical import levels, polynomial_factors


class PairGeometry(NamedTuple):
    """What the map of a pair to the 3-sphere needs beside its vector, each ``[n_atoms, max_neighbors]``."""

    cutoff: Float[Array, "n_atoms max_neighbors"]  # R_ij, Å
    weight: Float[Array, "n_atoms max_neighbors"]  # w of the neighbour
    mask: Bool[Array, "n_atoms max_neighbors"]
    inner: tuple[Array, Array] | None = None  # S_ij and D_ij of the inner switch, Å


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


def pair_polynomials(
    vectors: Float[Array, "n_atoms max_neighbors 3"], pair: PairGeometry, config
) -> tuple[Float[Array, "n_atoms n_left max_neighbors"], Float[Array, "n_atoms n_right max_neighbors"]]:
    """The density of each pair as two factors (`polynomial_factors`), exactly zero if masked or beyond R_ij.

    θ0 = rfac0 π (r − rmin0)/(R_ij − rmin0), a = ±(cos θ0 − i sin θ0 z/r), b = ±sin θ0 (y − i x)/r, with the sign of
    sin θ0: LAMMPS takes 4-vectors of positive length, and so its map jumps to −p for pairs closer than rmin0.
    """
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    r = jnp.sqrt(x**2 + y**2 + z**2)
    reduced = (r - config.rmin0) / (pair.cutoff - config.rmin0)
    theta0 = config.rfac0 * np.pi * reduced
    sign = jnp.where(theta0 < 0, -1, 1).astype(r.dtype)
    sine = sign * jnp.sin(theta0) / r
    inside = pair.mask & (r < pair.cutoff)
    weight = jnp.where(inside, _switch(r, reduced, pair, config) * pair.weight, 0)
    return polynomial_factors((sign * jnp.cos(theta0), -sine * z), (sine * y, -sine * x), weight, config.twojmax)


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


def bispectrum(
    density: Float[Array, "n_atoms n_channels n_polynomials"], config
) -> Float[Array, "n_atoms n_invariants"]:
    """The components B of a summed density (self term included), LAMMPS's order; channels (e f g) slowest.

    ``bnormflag`` divides by j + 1. ``bzeroflag`` is the caller's, since it depends on the central element.
    """
    n_atoms, n_channels, _ = density.shape
    table, f, triples = levels(config.twojmax), _level_functions(density, config), []
    weights = [jnp.asarray(rule.weights, density.dtype)[:, None, None] for rule in table.rules]
    weighted = [[w * f_j for f_j in values] for w, values in zip(weights, f, strict=True)]
    for j1, j2, j in bispectrum_indices(config.twojmax):
        k = table.rule(j1 + j2 + j)
        if n_channels == 1:
            triple = jnp.sum(f[k][j1] * f[k][j2] * weighted[k][j], axis=0)
        else:
            triple = jnp.einsum("qea,qfa,qga->efga", f[k][j1], f[k][j2], weighted[k][j])
        triples.append(_scale(j, config) * triple.reshape(-1, n_atoms))
    return jnp.stack(triples, axis=1).reshape(-1, n_atoms).T


def bispectrum_jacobian(
    density: Float[Array, "n_atoms 1 n_polynomials"], config
) -> Float[Array, "n_atoms n_invariants n_polynomials"]:
    """∂B/∂density of one channel. Each B holds three levels, so only those are differentiated."""
    n_atoms, _, n_polynomials = density.shape
    table, triples = levels(config.twojmax), bispectrum_indices(config.twojmax)
    at_points = _level_functions(density, config)
    jacobian = jnp.zeros((n_polynomials, len(triples), n_atoms), density.dtype)
    for k, rule in enumerate(table.rules):
        f = [f_j[:, 0] for f_j in at_points[k]]
        own = [number for number, triple in enumerate(triples) if table.rule(sum(triple)) == k]
        for level, (columns, projection) in enumerate(zip(table.columns, table.projection, strict=True)):
            held = [number for number in own if level in triples[number]]
            if not held:
                continue
            slopes = jnp.stack([_slope(f, triples[number], level) for number in held], axis=1)
            integrals = (rule.weights[:, None] * rule.synthesis[level]).T
            functions = jnp.tensordot(jnp.asarray(integrals, density.dtype), slopes, axes=1)
            part = jnp.tensordot(jnp.asarray(projection.T, density.dtype), functions, axes=1)
            jacobian = jacobian.at[columns, np.array(held)].add(part)
    scales = np.array([_scale(j, config) for _, _, j in triples])
    jacobian = jacobian * jnp.asarray(scales, density.dtype)[None, :, None]
    return jnp.transpose(jacobian, (2, 1, 0))


def _slope(f: list[Array], triple: tuple[int, int, int], level: int) -> Array:
    """∂(f_j1 f_j2 f_j)/∂f_level, point by point."""
    others = [[f[triple[m]] for m in range(3) if m != n] for n in range(3) if triple[n] == level]
    return sum(first * second for first, second in others)  # pyright: ignore[reportReturnType]


def _scale(j: int, config) -> float:
    return 1.0 if config.bnormflag else j + 1.0


def _level_functions(density: Array, config) -> list[list[Array]]:
    """f_j at the quadrature points of each rule, ``[n_points, n_channels, n_atoms]``.

    Atoms run fastest in memory, so that a processor works on several at once.
    """
    table, dtype = levels(config.twojmax), density.dtype
    functions = [
        jnp.einsum("fp,acp->fca", jnp.asarray(projection, dtype), density[:, :, columns])
        for columns, projection in zip(table.columns, table.projection, strict=True)
    ]
    return [
        [jnp.tensordot(jnp.asarray(S, dtype), part, axes=1) for S, part in zip(rule.synthesis, functions, strict=True)]
        for rule in table.rules
    ]
