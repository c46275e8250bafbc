"""The atomic base of ACE: sums over neighbours of radial functions times spherical harmonics, a matrix product an atom.

    G_{c k l m}(i) = Σ_j w_c(z_j) g_k(r_ij) S_lm(r̂_ij),      A_{c n l m} = Σ_k c_nlk G_{c k l m},

with real harmonics S_lm, |S_l|² = 2l + 1 on the unit sphere, and channels c: the elements, or mixtures of them.

References:
    Drautz, Phys. Rev. B 99, 014104 (2019), equations 20-27.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.basis.harmonics import spherical_harmonics

Sums = Float[Array, "n_channels n_basis n_harmonics n_atoms"]


def harmonics(directions: Float[Array, "3 *pairs"], l_max: int) -> Float[Array, "n_harmonics *pairs"]:
    """S_lm of unit vectors, degree by degree, m = −l … l."""
    x, y, z = directions
    found = spherical_harmonics(x, y, z, l_max)
    return jnp.sqrt(jnp.asarray(4 * np.pi, directions.dtype)) * jnp.stack([Y for degree in found for Y in degree])


def neighbor_sums(
    g: Float[Array, "n_channels n_basis n_atoms max_neighbors"], Y: Float[Array, "n_harmonics n_atoms max_neighbors"]
) -> Sums:
    """G of all atoms from the weighted radial functions ``g`` and the harmonics of their neighbours."""
    flat = g.reshape(-1, *g.shape[2:])
    return jnp.einsum("kam,lam->kla", flat, Y).reshape(*g.shape[:2], Y.shape[0], -1)


def combined(
    sums: Sums, coefficients: Float[Array, "n_rows n_channels n_max n_degrees n_basis"]
) -> Float[Array, "n_channels n_max n_combined n_atoms"]:
    """A_{c n l m} up to the degree of the coefficients; ``n_rows``: one for each atom, or one for all."""
    found = []
    for degree in range(coefficients.shape[3]):
        G, c = sums[:, :, degree**2 : (degree + 1) ** 2], coefficients[:, :, :, degree]
        found.append(jnp.einsum("cnk,ckma->cnma", c[0], G) if len(c) == 1 else jnp.einsum("acnk,ckma->cnma", c, G))
    return jnp.concatenate(found, axis=2)


def columns(rows: Int[np.ndarray, "n_rows 4"], n_basis: int, n_harmonics: int) -> Int[np.ndarray, " n_rows"]:
    """Where channel, n, l, m of each row stand in flattened sums."""
    channel, n, degree, m = rows.T
    return ((channel * n_basis + n) * n_harmonics + degree * (degree + 1) + m).astype(np.int32)
