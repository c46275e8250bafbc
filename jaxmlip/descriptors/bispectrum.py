"""Bispectrum components of the neighbour density on the 3-sphere, as LAMMPS defines them (SNAP).

A pair vector becomes a rotation by the angle 2 θ0 about an axis; the weighted density of these points and of the
central atom (no rotation) has the levels f_j(p) = U_j(p_0) + Σ_k f_c(r_ik) w_k U_j(p · p_ik), with U_j Chebyshev's
polynomials of the second kind. They are the expansion in Wigner functions, f_j = Σ_{m'm} U^j[m', m] u^j[m', m], or in
real harmonics φ (`harmonics`), f_j = Σ_n c_n φ_n. Since products of Clebsch-Gordan coefficients are integrals of three
Wigner functions,

    B_{j1 j2 j} = Σ conj(U^j) (C ⊗ C) U^{j1} U^{j2} = (j + 1) ∫ f_{j1} f_{j2} f_j dp = (j + 1) Σ_m Z_m c_m,

with Z_m = Σ_{n n'} ⟨φ_n φ_n' φ_m⟩ c_n c_n' the product of two levels (`coupled`), which is also ∂B/∂c_m.

References:
    Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), equation 21.
    Thompson et al., J. Comput. Phys. 285, 316 (2015), equations 3-9.
    Cusentino, Wood, Thompson, J. Phys. Chem. A 124, 5456 (2020), equation 8 (several element channels).
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxmlip.basis.hyperspherical import Factors, Rotations, harmonics, pair_slopes
from jaxmlip.basis.hyperspherical_products import coupled, products
from jaxmlip.graph.messages import in_blocks

_FEW = 4  # atoms; the slopes of their harmonics stay in a CPU's cache


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


def rotations(vectors: Float[Array, "n_atoms max_neighbors 3"], pair: PairGeometry, config) -> Rotations:
    """What each pair is on the 3-sphere; weights are zero if masked or beyond R_ij.

    θ0 = rfac0 π (r − rmin0)/(R_ij − rmin0), a = ±(cos θ0 − i sin θ0 z/r), b = ±sin θ0 (y − i x)/r, with the sign of
    sin θ0: LAMMPS takes 4-vectors of positive length, and so its map jumps to −p for pairs closer than rmin0.
    """
    x, y, z = jnp.transpose(vectors)
    pair = jax.tree.map(jnp.transpose, pair)
    r = jnp.sqrt(x**2 + y**2 + z**2)
    reduced = (r - config.rmin0) / (pair.cutoff - config.rmin0)
    theta0 = config.rfac0 * np.pi * reduced
    sign = jnp.where(theta0 < 0, -1, 1).astype(r.dtype)
    sine = sign * jnp.sin(theta0) / r
    inside = pair.mask & (r < pair.cutoff)
    weight = jnp.where(inside, _switch(r, reduced, pair, config) * pair.weight, 0)
    return Rotations(sign * jnp.cos(theta0), -sine * z, sine * y, -sine * x, weight)


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


def bispectrum(density: Float[Array, "n_harmonics n_channels n_atoms"], config) -> Float[Array, "n_atoms n_invariants"]:
    """The components B of summed `harmonics` (self term included), LAMMPS's order; channels (e f g) slowest.

    ``bnormflag`` divides by j + 1. ``bzeroflag`` is the caller's, since it depends on the central element.
    """
    return _components(_correlations(config.twojmax, density), config)


def _components(correlations: Array, config) -> Float[Array, "n_atoms n_invariants"]:
    found = correlations * _scales(config, correlations.dtype)[:, None, None, None, None]
    return jnp.moveaxis(found, 0, -2).reshape(-1, found.shape[-1]).T


def _scales(config, dtype) -> Float[Array, " n_triples"]:
    return jnp.asarray([1.0 if config.bnormflag else j + 1.0 for _, _, j in bispectrum_indices(config.twojmax)], dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _correlations(twojmax: int, c: Array) -> Float[Array, "n_triples n_channels n_channels n_channels n_atoms"]:
    """∫ f_j1 f_j2 f_j of each triple and of all channels, from the coefficients of the levels."""
    return _last_level(twojmax, _integrals(twojmax, coupled(c, twojmax), c))


@_correlations.defjvp
def _moved_correlations(twojmax: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Each level moves beside the product of the two others: ∫ f_j1 f_j2 ḟ_j + ∫ f_j1 ḟ_j2 f_j + ∫ ḟ_j1 f_j2 f_j."""
    (c,), (moved,) = primals, tangents
    Z = coupled(c, twojmax)
    return _last_level(twojmax, _integrals(twojmax, Z, c)), _each_level(twojmax, _integrals(twojmax, Z, moved))


def _integrals(twojmax: int, Z: list[Array], c: Array) -> Array:
    """∫ f_l1 f_l2 f_l for all pairs l1 ≤ l2 of each level l."""
    own = harmonics(twojmax).own
    return jnp.concatenate([jnp.einsum("zmefa,mga->zefga", Z_l, c[own(level)]) for level, Z_l in enumerate(Z)])


def _last_level(twojmax: int, integrals: Array) -> Array:
    """Those of all triples, channels of j1, j2, j."""
    return jnp.swapaxes(integrals[_slots(twojmax)[0]], 1, 2)


def _each_level(twojmax: int, integrals: Array) -> Array:
    """Where f_l has moved: the sum over the three levels of a triple."""
    last, first, second = (integrals[slot] for slot in _slots(twojmax))
    return jnp.swapaxes(last, 1, 2) + jnp.moveaxis(first, 3, 1) + jnp.swapaxes(second, 2, 3)


@lru_cache
def _slots(twojmax: int) -> Int[np.ndarray, "3 n_triples"]:
    """Where among the integrals those of a triple j ≥ j1 ≥ j2 stand whose own level l is j, j1, j2."""
    pairs = [(*pair, level) for level, own in enumerate(products(twojmax).pairs) for pair in own]
    number = {levels: k for k, levels in enumerate(pairs)}
    ordered = [((b, a, j), (b, j, a), (a, j, b)) for a, b, j in bispectrum_indices(twojmax)]
    return np.array([[number[levels] for levels in slots] for slots in ordered], np.int32).T


def bispectrum_slopes(
    density: Float[Array, "n_harmonics 1 n_atoms"], of: Factors, moved: Factors, config
) -> tuple[Float[Array, "n_atoms n_invariants"], Float[Array, "n_atoms n_invariants n_moves max_neighbors"]]:
    """B of one channel, and its derivatives along moves of each pair.

    ``moved`` are derivatives of the factors ``of`` along these, each ``[n_factors, n_moves, max_neighbors, n_atoms]``.
    """
    twojmax, scales = config.twojmax, _scales(config, density.dtype)[None, :, None]
    table, (last, first, second) = harmonics(twojmax), _slots(twojmax)
    n_moves, max_neighbors, n_atoms = moved.x.shape[1:]

    def along(rows: tuple[list[Array], Factors, Factors]) -> Array:
        Z, of, moved = rows
        phi = pair_slopes(of, moved, twojmax)
        integrals = [jnp.einsum("azm,amn->azn", Z_l, phi[:, table.own(level)]) for level, Z_l in enumerate(Z)]
        integrals = jnp.concatenate(integrals, axis=1)
        return (integrals[:, last] + integrals[:, first] + integrals[:, second]) * scales

    def by_atoms(part: Array) -> Array:  # [n_atoms, n_factors, n_moves · max_neighbors]
        return jnp.moveaxis(part, -1, 0).reshape(n_atoms, part.shape[0], -1)

    of = Factors(*(by_atoms(jnp.broadcast_to(part[:, None], (len(part), *moved.x.shape[1:]))) for part in of))
    Z = coupled(density, twojmax)
    B = _components(_last_level(twojmax, _integrals(twojmax, Z, density)), config)
    Z = [jnp.moveaxis(Z_l[:, :, 0, 0], -1, 0) for Z_l in Z]
    block = _FEW if jax.default_backend() == "cpu" else n_atoms
    found = in_blocks(along, (Z, of, Factors(*map(by_atoms, moved))), block)
    return B, found.reshape(*found.shape[:2], n_moves, max_neighbors)
