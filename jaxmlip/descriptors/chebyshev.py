"""Chebyshev fingerprints of local atomic environments, as aenet defines them.

Radial and angular distribution functions around atom i, expanded in Chebyshev polynomials T_n:

    R_n = Σ_j w_j f_c(r_ij, R_r) T_n(2 r_ij / R_r − 1),                                    n = 0 … N_r,
    A_n = Σ_{j<k} w_j w_k f_c(r_ij, R_a) f_c(r_ik, R_a) T_n(cos θ_jik),                    n = 0 … N_a,

once with w = 1 (structure) and once with a weight for each element (composition): [R, A, Rʷ, Aʷ]. There is no loop over
pairs of neighbours: T_n(cos θ) = Σ_l c_nl P_l(cos θ), and by the addition theorem of spherical harmonics

    A_n = ½ (Σ_l c_nl Σ_m |Σ_j w_j f_j Y_lm(r̂_j)|² − Σ_j w_j² f_j²),

the last sum being the pairs j = k. The cost is proportional to the number of neighbours.

References:
    Artrith, Urban, Ceder, Phys. Rev. B 96, 014112 (2017).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmlip.basis.chebyshev import chebyshev_factors, unfolding
from jaxmlip.basis.cutoff import cosine_cutoff
from jaxmlip.basis.harmonics import harmonics, sphere_factors, squares_to_chebyshev


class Expansion(NamedTuple):
    """Cutoffs in Å and highest orders, aenet's ``radial_Rc``, ``radial_N``, ``angular_Rc`` and ``angular_N``."""

    radial_cutoff: float
    radial_order: int
    angular_cutoff: float
    angular_order: int

    @property
    def n_functions(self) -> int:
        """Numbers in a set [R, A]."""
        return self.radial_order + self.angular_order + 2


def chebyshev_fingerprints(
    vectors: Float[Array, "n_atoms max_neighbors 3"],
    weights: Float[Array, "n_atoms n_sets max_neighbors"],
    mask: Bool[Array, "n_atoms max_neighbors"],
    expansion: Expansion,
) -> Float[Array, "n_atoms n_features"]:
    """[R, A] for each set of weights w_j of the neighbours, one set after the other; dimensionless.

    >>> triangle = jnp.array([[[2.0, 0, 0], [0, 2.0, 0]]])
    >>> one = jnp.ones((1, 1, 2))
    >>> chebyshev_fingerprints(triangle, one, one[0] > 0, Expansion(4.0, 1, 4.0, 2)).round(6).tolist()
    [[1.0, 0.0, 0.25, 0.0, -0.25]]
    """
    # Components stand before neighbours: XLA's loops over neighbours then run on adjacent numbers.
    v = jnp.swapaxes(vectors, 1, 2)
    r2 = jnp.sum(v * v, axis=1, keepdims=True)
    r = jnp.sqrt(r2)
    inside = mask[:, None]
    R = _radial(r, jnp.where(inside, cosine_cutoff(r, expansion.radial_cutoff), 0) * weights, expansion)
    A = _angular(v / r, jnp.where(inside, cosine_cutoff(r, expansion.angular_cutoff), 0) * weights, expansion)
    return jnp.concatenate([R, A], axis=-1).reshape(vectors.shape[0], -1)


def _radial(r: Array, weight: Array, expansion: Expansion) -> Float[Array, "n_atoms n_sets n_radial"]:
    """Σ_j weight_j T_n(2 r_j / R_r − 1)."""
    left, right = chebyshev_factors(r * (2 / expansion.radial_cutoff) - 1, expansion.radial_order)
    return _products(left, right, weight) @ jnp.asarray(unfolding(expansion.radial_order), r.dtype)


def _angular(unit: Array, weight: Array, expansion: Expansion) -> Float[Array, "n_atoms n_sets n_angular"]:
    """½ (Σ_jk − Σ_{j=k}) weight_j weight_k T_n(cos θ_jk)."""
    order = expansion.angular_order
    x, y, z = jax.lax.split(unit, [1, 1, 1], axis=1)
    left, right = sphere_factors(x, y, z, order)
    Y = _products(left, right, weight) @ jnp.asarray(harmonics(order), weight.dtype)
    all_pairs = (Y * Y) @ jnp.asarray(squares_to_chebyshev(order), weight.dtype)
    return (all_pairs - jnp.sum(weight * weight, axis=-1)[:, :, None]) / 2


def _products(left: list[Array], right: list[Array], weight: Array) -> Float[Array, "n_atoms n_sets n_products"]:
    """Σ_j weight_j L_l(j) R_r(j), all l and r: one small matrix product an atom."""
    weighted = weight[:, :, None] * jnp.concatenate(left, axis=1)[:, None]
    sums = jnp.einsum("aslj,arj->aslr", weighted, jnp.concatenate(right, axis=1))
    return sums.reshape(*sums.shape[:2], -1)
