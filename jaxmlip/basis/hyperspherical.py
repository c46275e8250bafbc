"""Functions on the 3-sphere, the group of rotations: real harmonics of each level, and what they are products of.

A rotation is a unit 4-vector p = (Re a, Im a, Re b, Im b) of its Cayley-Klein parameters. All angular momenta are
doubled: level j holds the (j+1)² Wigner functions u^j[m', m](p), polynomials of degree j, or as many real ones,

    φ = N P_t^(q, p)(|a|² − |b|²) (Re, Im) a^p (Re, Im) b^q,      p + q + 2t = j      (P: Jacobi polynomials),

with the addition theorem Σ φ(p) φ(p') = U_j(p · p') of Chebyshev's polynomials of the second kind.

References:
    Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), sections 4.3.4 and 4.15.
    Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), section II.D.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import eval_jacobi

Complex = tuple[Any, Any]  # real and imaginary part


def powers(z: Complex, highest: int) -> list[Complex]:
    """1, z, z², … as real and imaginary parts."""
    result = [(z[0] ** 0, 0 * z[1]), z]
    for _ in range(2, highest + 1):
        re, im = result[-1]
        result.append((z[0] * re - z[1] * im, z[0] * im + z[1] * re))
    return result[: highest + 1]


class Rotations(NamedTuple):
    """Of the neighbours of each atom, with their weights."""

    re_a: Float[Array, "max_neighbors n_atoms"]
    im_a: Float[Array, "max_neighbors n_atoms"]
    re_b: Float[Array, "max_neighbors n_atoms"]
    im_b: Float[Array, "max_neighbors n_atoms"]
    weight: Float[Array, "max_neighbors n_atoms"]


class Factors(NamedTuple):
    """What harmonics of rotations are products of. Atoms run fastest, so that a processor works on several at once."""

    a: Float[Array, "n_phases max_neighbors n_atoms"]
    """1, Re a, Im a, Re a², …"""
    x: Float[Array, "n_turns max_neighbors n_atoms"]
    """weight · T_t(|a|² − |b|²) for t up to half the highest level."""
    b: Float[Array, "n_phases max_neighbors n_atoms"]
    """1, Re b, Im b, Re b², …"""


def factors(of: Rotations, twojmax: int) -> Factors:
    """The factors of all harmonics up to the level ``twojmax``."""
    x = of.re_a**2 + of.im_a**2 - of.re_b**2 - of.im_b**2

    def chebyshev(pair: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        return (pair[1], 2 * x * pair[1] - pair[0]), pair[0]

    _, turns = jax.lax.scan(chebyshev, (of.weight, of.weight * x), None, length=twojmax // 2 + 1)
    return Factors(_phases(of.re_a, of.im_a, twojmax), turns, _phases(of.re_b, of.im_b, twojmax))


def _phases(re: Array, im: Array, highest: int) -> Array:
    """One power after the other: in one expression XLA would compute each from the first."""

    def times(power: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        power = re * power[0] - im * power[1], re * power[1] + im * power[0]
        return power, jnp.stack(power)

    one = jnp.ones_like(re)
    _, found = jax.lax.scan(times, (one, jnp.zeros_like(one)), None, length=highest)
    return jnp.concatenate([one[None], found.reshape(-1, *one.shape)])


class Harmonics(NamedTuple):
    """The functions φ, level by level, and the kinds (p, q, t) that differ beside their phases."""

    level: Int[np.ndarray, " n_harmonics"]
    a: Int[np.ndarray, " n_harmonics"]
    """Which of 1, Re a, Im a, Re a², …"""
    b: Int[np.ndarray, " n_harmonics"]
    kind: Int[np.ndarray, " n_harmonics"]
    polynomials: Float[np.ndarray, "n_kinds n_turns"]
    """N P_t^(q, p) of each kind by Chebyshev's polynomials; N makes the mean of φ² on the 3-sphere 1/(j + 1)."""

    def own(self, level: int) -> slice:
        """Where the (level + 1)² functions of a level stand."""
        return slice(level * (level + 1) * (2 * level + 1) // 6, (level + 1) * (level + 2) * (2 * level + 3) // 6)


@lru_cache
def harmonics(twojmax: int) -> Harmonics:
    """All Σ_j (j+1)² functions of the levels up to one."""
    level, a, b = np.indices((twojmax + 1, 2 * twojmax + 1, 2 * twojmax + 1), np.int32).reshape(3, -1)
    p, q = (a + 1) // 2, (b + 1) // 2
    kept = (p + q <= level) & ((level - p - q) % 2 == 0)
    level, a, b, p, q = (part[kept] for part in (level, a, b, p, q))
    kinds, kind = np.unique(np.stack([p, q, (level - p - q) // 2]), axis=1, return_inverse=True)
    polynomials = np.zeros((kinds.shape[1], twojmax // 2 + 1))
    for row, (p_k, q_k, t_k) in zip(polynomials, kinds.T.tolist(), strict=True):
        row[: t_k + 1] = _polynomial(p_k, q_k, t_k)
    # 32-bit: JAX keeps a constant for this cached array, and 64-bit indices would leak into 32-bit functions.
    return Harmonics(level, a, b, kind.astype(np.int32), polynomials)


@lru_cache(maxsize=4096)
def _polynomial(p: int, q: int, t: int) -> Float[np.ndarray, " n_turns"]:
    nodes, weights = np.polynomial.legendre.leggauss(p + q + 2 * t + 1)
    of_phases = (0.5 if p else 1.0) * (0.5 if q else 1.0)
    square = eval_jacobi(t, q, p, nodes) ** 2 * ((1 + nodes) / 2) ** p * ((1 - nodes) / 2) ** q
    scale = 1 / np.sqrt((p + q + 2 * t + 1) * of_phases * (square @ weights) / 2)
    return scale * np.polynomial.chebyshev.chebinterpolate(lambda x: eval_jacobi(t, q, p, x), t)


def radial_part(p: int, q: int, t: int, x: Float[np.ndarray, " n_points"]) -> Float[np.ndarray, " n_points"]:
    """A harmonic without its phases, N P_t^(q, p)(x) |a|^p |b|^q with x = |a|² − |b|²."""
    polynomial = np.polynomial.chebyshev.chebval(x, _polynomial(p, q, t))
    return polynomial * ((1 + x) / 2) ** (p / 2) * ((1 - x) / 2) ** (q / 2)


def harmonic_sums(of: Factors, twojmax: int) -> Float[Array, "n_harmonics n_atoms"]:
    """Σ φ over the neighbours of each atom: matrix products of the factors, and one from their products to φ."""
    sums = [
        jnp.einsum("uma,vma->uva", of.a[: 2 * highest + 1] * turn[None], of.b[: 2 * highest + 1])
        for turn, highest in zip(of.x, range(twojmax, -1, -2), strict=True)
    ]
    sums = jnp.concatenate([part.reshape(-1, part.shape[-1]) for part in sums])
    return jnp.asarray(_of_products(twojmax), sums.dtype) @ sums


@lru_cache
def _of_products(twojmax: int) -> Float[np.ndarray, "n_harmonics n_products"]:
    """φ by the products of `harmonic_sums`."""
    table, widths = harmonics(twojmax), 2 * np.arange(twojmax, -1, -2) + 1
    matrix, start = np.zeros((table.level.size, int(np.sum(widths**2)))), 0
    for t, width in enumerate(widths):
        (own,) = np.nonzero((table.a < width) & (table.b < width))
        matrix[own, start + table.a[own] * width + table.b[own]] = table.polynomials[table.kind[own], t]
        start += width**2
    return matrix


def pair_harmonics(of: Factors, twojmax: int) -> Float[Array, "n_atoms n_harmonics max_neighbors"]:
    """φ of each pair. Neighbours run fastest."""
    table = harmonics(twojmax)
    a, x, b = (jnp.moveaxis(part, -1, 0) for part in of)
    polynomials = jnp.einsum("kt,atm->akm", jnp.asarray(table.polynomials, x.dtype), x)
    return polynomials[:, table.kind] * a[:, table.a] * b[:, table.b]


def pair_slopes(of: Factors, moved: Factors, twojmax: int) -> Float[Array, "n_atoms n_harmonics n"]:
    """Derivatives of φ where ``moved`` are those of the factors ``of``: here each ``[n_atoms, n_factors, n]``."""
    table = harmonics(twojmax)
    matrix = jnp.asarray(table.polynomials, of.x.dtype)
    x, dx = (jnp.einsum("kt,atn->akn", matrix, part)[:, table.kind] for part in (of.x, moved.x))
    a, da = (part[:, table.a] for part in (of.a, moved.a))
    b, db = (part[:, table.b] for part in (of.b, moved.b))
    return dx * (a * b) + x * (da * b + a * db)


def at_identity(twojmax: int) -> Float[np.ndarray, " n_harmonics"]:
    """φ at p = (1, 0, 0, 0), no rotation: a = 1, b = 0."""
    table = harmonics(twojmax)
    real = (table.b == 0) & ((table.a == 0) | (table.a % 2 == 1))
    return np.where(real, table.polynomials[table.kind].sum(axis=1), 0)
