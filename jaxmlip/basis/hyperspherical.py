"""Functions on the 3-sphere, the group of rotations: points, polynomials, levels and an exact quadrature.

A rotation is a unit 4-vector p = (Re a, Im a, Re b, Im b) of its Cayley-Klein parameters. All angular momenta are
doubled: level j holds the (j+1)² Wigner functions u^j[m', m](p), polynomials of degree j. Their addition theorem,

    Σ_{m'm} u^j[m', m](p) u^j[m', m](p̄') = U_j(p · p')          (U_j: Chebyshev polynomial of the second kind),

makes single Wigner functions unnecessary: any basis of the level serves.

References:
    Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), section 4.15.
    Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), section II.D.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.basis.chebyshev import chebyshev, recurrence

Complex = tuple[Any, Any]  # real and imaginary part


def powers(z: Complex, highest: int) -> list[Complex]:
    """1, z, z², … as real and imaginary parts."""
    result = [(z[0] ** 0, 0 * z[1]), z]
    for _ in range(2, highest + 1):
        re, im = result[-1]
        result.append((z[0] * re - z[1] * im, z[0] * im + z[1] * re))
    return result[: highest + 1]


def polynomial_factors(a: Complex, b: Complex, weight: Any, twojmax: int, *, xp: Any = jnp) -> tuple[Any, Any]:
    """Two factors whose products L_l R_r span all polynomials up to degree ``twojmax`` on the 3-sphere.

    L: ``weight`` · T_t(|a|² − |b|²) · (Re, Im) a^p with p + 2t ≤ twojmax;  R: (Re, Im) b^q with q ≤ twojmax.
    The sum of products over neighbours is one small matrix product an atom.

    Args:
        a: real and imaginary part, each ``[n_atoms, max_neighbors]``.
        b: as ``a``.
        weight: ``[n_atoms, max_neighbors]``.
        twojmax: the highest degree.
        xp: the array module, `jax.numpy` or `numpy`.

    Returns:
        ``[n_atoms, n_left, max_neighbors]`` and ``[n_atoms, n_right, max_neighbors]``.
    """
    once = jax.lax.optimization_barrier if _by_parts(xp) else lambda x: x  # else they are computed for each product
    a, b, weight = once((a, b, weight))
    t_of_x = chebyshev(a[0] ** 2 + a[1] ** 2 - b[0] ** 2 - b[1] ** 2, twojmax // 2)
    a_p, b_q, weighted = once((powers(a, twojmax), powers(b, twojmax), [weight * t for t in t_of_x]))
    left = [weighted[t] * part for p, t in _left_powers(twojmax) for part in a_p[p][: 2 if p else 1]]
    right = [part for q, power in enumerate(b_q) for part in power[: 2 if q else 1]]
    return once((_stacked(left, xp), _stacked(right, xp)))


def _stacked(parts: list[Any], xp: Any) -> Any:
    """``[n_atoms, n, max_neighbors]`` of n parts."""
    if not _by_parts(xp):
        return xp.stack(parts, axis=-2)
    whole = jnp.zeros((*parts[0].shape[:-1], len(parts), parts[0].shape[-1]), parts[0].dtype)
    for k, part in enumerate(parts):
        whole = jax.lax.dynamic_update_index_in_dim(whole, part, k, axis=-2)
    return whole


def _by_parts(xp: Any) -> bool:
    """Whether to write each part to its place: on CPUs XLA's concatenation chooses among all parts for each number."""
    return xp is jnp and jax.default_backend() == "cpu"


def _left_powers(twojmax: int) -> list[tuple[int, int]]:
    """The p and t of left factors, degree p + 2t rising."""
    return [(degree - 2 * t, t) for degree in range(twojmax + 1) for t in range(degree // 2 + 1)]


def _left_degrees(twojmax: int) -> list[int]:
    """Of each left factor, rising."""
    return [p + 2 * t for p, t in _left_powers(twojmax) for _ in range(2 if p else 1)]


class Polynomials(NamedTuple):
    """The products L_l R_r that form a basis: those of degree p + 2t + q ≤ twojmax, even degrees first."""

    left: Int[np.ndarray, " n_polynomials"]
    right: Int[np.ndarray, " n_polynomials"]
    degree: Int[np.ndarray, " n_polynomials"]


@lru_cache
def polynomials(twojmax: int) -> Polynomials:
    """Which products to keep; Σ_j (j+1)² of them, sorted by parity, then by degree."""
    left = _left_degrees(twojmax)
    right = [q for q in range(twojmax + 1) for _ in range(2 if q else 1)]
    degree = np.add.outer(left, right)
    l_index, r_index = np.nonzero(degree <= twojmax)
    kept = degree[l_index, r_index]
    order = np.lexsort((kept, kept % 2))
    # 32-bit: JAX keeps a constant for this cached array, and 64-bit indices would leak into 32-bit functions.
    left_index, right_index = (index[order].astype(np.int32) for index in (l_index, r_index))
    return Polynomials(left_index, right_index, kept[order])


def polynomial_products(
    left: Float[Array, "n_atoms n_left max_neighbors"], right: Float[Array, "n_atoms n_right max_neighbors"]
) -> Float[Array, "n_atoms n_polynomials max_neighbors"]:
    """L_l R_r of each pair in the order of `polynomials`: outer products of the factors of one degree each."""
    n_atoms, n_right, width = right.shape
    twojmax = (n_right - 1) // 2
    basis = polynomials(twojmax)
    if not _by_parts(jnp):
        return left[:, basis.left] * right[:, basis.right]
    first = np.searchsorted(_left_degrees(twojmax), np.arange(twojmax + 2))
    whole, start = jnp.zeros((n_atoms, len(basis.left), width), left.dtype), 0
    for total in (*range(0, twojmax + 1, 2), *range(1, twojmax + 1, 2)):
        for degree in range(total + 1):
            q = total - degree
            L, R = left[:, first[degree] : first[degree + 1]], right[:, max(0, 2 * q - 1) : 2 * q + 1]
            part = (L[:, :, None] * R[:, None]).reshape(n_atoms, -1, width)
            whole = jax.lax.dynamic_update_slice_in_dim(whole, part, start, axis=1)
            start += part.shape[1]
    return whole


class Rule(NamedTuple):
    """A quadrature, ∫ f = Σ_q weights[q] f[q], and the functions of each level at its points."""

    degree: int
    """Up to which even polynomials are integrated exactly."""
    synthesis: tuple[Float[np.ndarray, "n_points n_functions"], ...]
    weights: Float[np.ndarray, " n_points"]


class Levels(NamedTuple):
    """How f_j at quadrature points follows from the sums of polynomials, level by level.

    f_j = synthesis[j] @ projection[j] @ (sums of the polynomials ``columns[j]``), with the synthesis of either rule.
    """

    columns: tuple[slice, ...]
    projection: tuple[Float[np.ndarray, "n_functions n_columns"], ...]
    rules: tuple[Rule, ...]
    """From few points to many."""

    def rule(self, degree: int) -> int:
        """The number of the first rule that integrates polynomials of this even degree exactly."""
        return next(k for k, rule in enumerate(self.rules) if degree <= rule.degree)


@lru_cache
def levels(twojmax: int) -> Levels:
    """Level j of a density Σ_n w_n δ(p − p_n) is f_j(p) = Σ_n w_n U_j(p · p_n).

    With polynomials ψ, U_j(p · p') = ψ(p)ᵀ C ψ(p'), and C of rank (j+1)² splits into Φᵀ Φ.
    """
    basis, degree = polynomials(twojmax), 3 * twojmax // 2
    degrees = sorted({-(-3 * degree // 4), degree})  # few triples need the second, which has most of the points
    rules = [rotation_quadrature(d) for d in degrees]
    psi = [_polynomials_at(points, twojmax) for points, _ in rules]
    inverses = [np.linalg.pinv(psi[-1][:, basis.degree % 2 == parity]) for parity in (0, 1)]
    n_even = int(np.sum(basis.degree % 2 == 0))
    columns, projection = [], []
    cosine = rules[-1][0] @ rules[-1][0].T
    for j, kernel in enumerate(recurrence(cosine, np.ones_like(cosine), 2 * cosine, twojmax)):
        start = n_even * (j % 2)
        kept = slice(start, start + int(np.sum((basis.degree <= j) & (basis.degree % 2 == j % 2))))
        inverse = inverses[j % 2][: kept.stop - start]
        values, vectors = np.linalg.eigh(inverse @ kernel @ inverse.T)
        n_functions = (j + 1) ** 2
        projection.append(np.sqrt(values[-n_functions:, None]) * vectors[:, -n_functions:].T)
        columns.append(kept)
    found = []
    for d, (_, weights), values in zip(degrees, rules, psi, strict=True):
        synthesis = [values[:, kept] @ phi.T for kept, phi in zip(columns, projection, strict=True)]
        found.append(Rule(2 * d, tuple(synthesis), weights))
    return Levels(tuple(columns), tuple(projection), tuple(found))


def _polynomials_at(
    points: Float[np.ndarray, "n_points 4"], twojmax: int
) -> Float[np.ndarray, "n_points n_polynomials"]:
    a, b = (points[:, 0], points[:, 1]), (points[:, 2], points[:, 3])
    left, right = polynomial_factors(a, b, np.ones(len(points)), twojmax, xp=np)
    basis = polynomials(twojmax)
    return (left[basis.left] * right[basis.right]).T


@lru_cache
def rotation_quadrature(degree: int) -> tuple[Float[np.ndarray, "n_points 4"], Float[np.ndarray, " n_points"]]:
    """Points on the 3-sphere and weights (sum 1), exact for even polynomials up to twice ``degree``.

    A rotation is a direction (Lebedev's rule of this degree) and a turn about it (degree + 1 equal angles).

    References:
        Lebedev and Laikov, Dokl. Math. 59, 477 (1999).
        Gräf and Potts, Numer. Funct. Anal. Optim. 30, 665 (2009), theorem 3.3: such products on the rotation group.
    """
    from scipy.integrate import lebedev_rule

    orders = [*range(3, 33, 2), 35, 41, 47, 53, 59, 65]
    directions, weights = lebedev_rule(next(order for order in orders if order >= degree))
    alpha, beta = np.arctan2(directions[1], directions[0])[:, None], np.arccos(np.clip(directions[2], -1, 1))[:, None]
    gamma = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    a = (np.cos(beta / 2) * np.exp(-0.5j * (alpha + gamma))).ravel()
    b = (np.sin(beta / 2) * np.exp(-0.5j * (alpha - gamma))).ravel()
    return np.stack([a.real, a.imag, b.real, b.imag], axis=1), np.repeat(
        weights / weights.sum(), gamma.size
    ) / gamma.size


def at_identity(twojmax: int) -> Float[np.ndarray, " n_polynomials"]:
    """The polynomials at p = (1, 0, 0, 0), no rotation."""
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    left, right = polynomial_factors((one, zero), (zero, zero), one, twojmax, xp=np)
    basis = polynomials(twojmax)
    return left[0, basis.left, 0] * right[0, basis.right, 0]
