"""Functions of distance of ACE as pacemaker evaluates them: radial bases g_k, inner switches, core repulsion, splines.

pacemaker replaces g_k and the core repulsion u by cubic Hermite splines with exact values and slopes at r = n h. There
are no tables here: both ends of the interval that holds r are evaluated when they are needed.

References:
    Drautz, Phys. Rev. B 99, 014104 (2019), equations 21 and 24 (Chebyshev polynomials of an exponential).
    Kocer, Mason, Erturk, AIP Advances 10, 015021 (2020): orthonormal spherical Bessel functions.
    Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021): pacemaker.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.basis.chebyshev import chebyshev
from jaxmlip.basis.cutoff import cosine_cutoff
from jaxmlip.basis.radial import bessel
from jaxmlip.potentials.zbl import COULOMB, SCREENING_LENGTH, SCREENING_POWER, screening, switch

Basis = Literal["SBessel", "ChebExpCos", "ChebPow", "ChebLinear"]
Inner = Literal["distance", "density", "zbl"]


class Bond(NamedTuple):
    """Two elements and their functions of distance; Å and eV."""

    basis: str = "SBessel"  # of `Basis`; "" is zero
    decay: float = 5.25  # λ of the Chebyshev bases
    cutoff: float = 5.0
    width: float = 0.01  # dcut: where ChebExpCos, and the repulsion of "zbl", fade out
    n_basis: int = 8  # K: radial functions g_k
    n_max: int = 8  # combinations R_nl of them
    l_max: int = 3
    prefactor: float = 0.0  # p of the core repulsion
    exponent: float = 0.0  # its λ, 1/Å²
    inner: float = 0.0  # r_in
    inner_width: float = 0.0  # Δ_in


class Pairs(NamedTuple):
    """What `pair_functions` needs of each pair: the `Bond` of its elements, each value ``[*pairs]``."""

    decay: Array
    cutoff: Array
    width: Array
    prefactor: Array
    exponent: Array
    inner: Array
    inner_width: Array
    charge: Array  # e²/(4πε₀) Z_i Z_j, eV Å
    length: Array  # of screening, Å
    cubic: Array
    quartic: Array
    constant: Array
    step: Array  # of the spline, Å; 0: none
    n_nodes: Array


def pair_table(
    bonds: list[list[Bond]], numbers: tuple[int, ...], step: float
) -> Float[np.ndarray, "n_species n_species n_values"]:
    """The values of `Pairs` by two elements of atomic ``numbers``; ``step``: DeltaSplineBins."""
    rows = [[_values(bond, z1, z2, step) for bond, z2 in zip(row, numbers)] for row, z1 in zip(bonds, numbers)]
    return np.array(rows)


def _values(bond: Bond, z1: int, z2: int, step: float) -> list[float]:
    length = SCREENING_LENGTH / (z1**SCREENING_POWER + z2**SCREENING_POWER)
    charge = COULOMB * z1 * z2
    A, B, C = (x.item() for x in switch(np.array([[charge]]), np.array([[length]]), bond.cutoff, bond.width or 1.0))
    if not bond.width:
        A, B, C = 0.0, 0.0, -charge * float(screening(np.array(bond.cutoff / length))) / bond.cutoff
    n_nodes = int(bond.cutoff / step) if step else 1
    values = (bond.decay, bond.cutoff, bond.width, bond.prefactor, bond.exponent, bond.inner, bond.inner_width)
    return [*values, charge, length, A / 3, B / 4, C, bond.cutoff / n_nodes if step else 0.0, float(n_nodes)]


def pair_functions(
    r: Float[Array, "*pairs"], pairs: Pairs, basis: str, inner: str, n_basis: int, *, splines: bool
) -> Float[Array, "n_functions *pairs"]:
    """g_1 … g_K and the core repulsion u in eV of all pairs; zero from the cutoff on. ``n_basis``: K."""

    def exact(r: Array) -> Array:
        g = _inner_cutoff(BASES[basis](r, pairs, n_basis), r, pairs, inner)
        return jnp.where(r < pairs.cutoff, jnp.concatenate([g, core_repulsion(r, pairs, inner)[None]]), 0)

    return hermite(exact, r, pairs.step, pairs.n_nodes) if splines else exact(r)


def hermite(
    function: Callable,
    r: Float[Array, "*pairs"],
    h: Float[Array, "*pairs"],
    last: Float[Array, "*pairs"],
) -> Float[Array, "n_functions *pairs"]:
    """The cubic with the values and slopes of ``function`` at the two multiples of h around r; 0 at node ``last``."""
    n = jnp.clip(jnp.floor(jax.lax.stop_gradient(r) / h), 1, last - 1)
    t = (r / h - n)[None]

    def node(n: Array) -> tuple[Array, Array]:
        value, slope = jax.jvp(function, (n * h,), (jnp.ones_like(r),))
        inside = n < last - 0.5
        return jnp.where(inside, value, 0), jnp.where(inside, slope * h[None], 0)

    (f0, d0), (f1, d1) = node(n), node(n + 1)
    cubic = f0 + t * (d0 + t * (3 * (f1 - f0) - d1 - 2 * d0 + t * (2 * (f0 - f1) + d0 + d1)))
    return jnp.where(r < last * h, cubic, 0)


def switch_off(
    x: Float[Array, "*pairs"], end: Float[Array, "*pairs"], width: Float[Array, "*pairs"]
) -> Float[Array, "*pairs"]:
    """S = 1 − 10 t³ + 15 t⁴ − 6 t⁵, t = (x − end + width)/width in 0 … 1: 1 below, 0 from ``end`` on; width 0: a step.

    >>> switch_off(jnp.array([0.0, 1.5, 3.0]), jnp.full(3, 2.0), jnp.ones(3)).tolist()
    [1.0, 0.5, 0.0]
    """
    t = jnp.clip((x - end + width) / jnp.where(width > 0, width, 1), 0, 1)
    return jnp.where(width > 0, 1 - t**3 * (10 - t * (15 - 6 * t)), (x <= end).astype(x.dtype))


def core_repulsion(r: Float[Array, "*pairs"], pairs: Pairs, inner: str) -> Float[Array, "*pairs"]:
    """Energy u in eV that a pair adds to each of its atoms."""
    if inner == "zbl":
        t = jnp.maximum(r - pairs.cutoff + pairs.width, 0)
        energy = pairs.charge / r * screening(r / pairs.length) + pairs.constant
        energy = energy + pairs.cubic * t**3 + pairs.quartic * t**4
        return pairs.prefactor / 2 * energy * switch_off(r, pairs.cutoff, pairs.width)
    exponent = jnp.abs(pairs.exponent) * r**2
    u = jnp.abs(pairs.prefactor) * jnp.exp(-jnp.minimum(exponent, 50)) / r * cosine_cutoff(r, pairs.cutoff)
    u = jnp.where(exponent < 50, u, 0)
    return u * switch_off(r, pairs.inner, pairs.inner_width) if inner == "distance" else u


def _inner_cutoff(g: Array, r: Array, pairs: Pairs, inner: str) -> Array:
    start = pairs.inner - pairs.inner_width
    if inner == "distance":
        return g * (1 - switch_off(r, pairs.inner, pairs.inner_width))[None]
    if inner == "density":
        return jnp.where(r > start, g, 0)
    return jnp.where((pairs.inner_width > 0) | (r > 1), g, 0)  # 1 Å: of the original, whatever r_in is


def _bessel(r: Array, pairs: Pairs, n_basis: int) -> Array:
    """Orthonormal sums of f_n = (−1)^n √2 π R^−1.5 (n+1)(n+2)/√((n+1)² + (n+2)²) [sin a/a + sin b/b].

    A = (n+1) π r/R and b = (n+2) π r/R.
    """
    T = np.zeros((n_basis, n_basis + 1))
    d = 1.0
    for n in range(n_basis):
        f = np.zeros(n_basis + 1)
        f[n] = 1 / (n + 1)  # sin(a)/a = sin(k x)/(k x), k = n + 1
        f[n + 1] = 1 / (n + 2)
        f *= (-1) ** n * math.sqrt(2) * math.pi * (n + 1) * (n + 2) / math.hypot(n + 1, n + 2)
        e = n**2 * (n + 2) ** 2 / (4 * (n + 1) ** 4 + 1)
        before, d = d, 1 - e / d if n else 1.0
        T[n] = (f + (math.sqrt(e / before) * T[n - 1] if n else 0)) / math.sqrt(d)
    R = pairs.cutoff
    sines = bessel(jnp.minimum(r, R), R, n_basis + 1) * (jnp.sqrt(R) / (2 * math.pi))[..., None]  # sin(k x)/x R^−1.5
    return jnp.einsum("kn,...n->k...", jnp.asarray(T, r.dtype), sines)


def _exponential(r: Array, pairs: Pairs, n_basis: int) -> Array:
    """g_1 = E C, g_k = (1 − T_{k−1}(x))/2 E C with x = 1 − 2 (e^(−λ r/R) − e^−λ)/(1 − e^−λ)."""
    end = jnp.exp(-pairs.decay)
    x = 1 - 2 * (jnp.exp(-pairs.decay * r / pairs.cutoff) - end) / (1 - end)
    width = jnp.where(pairs.width > 0, pairs.width, 1)
    outer = cosine_cutoff(jnp.clip(r - pairs.cutoff + pairs.width, 0, width), width)
    cut = cosine_cutoff(r, pairs.cutoff) * jnp.where(pairs.width > 0, outer, 1)
    return jnp.stack([cut, *(cut * (1 - T) / 2 for T in chebyshev(x, n_basis)[1:n_basis])])


def _nothing(r: Array, pairs: Pairs, n_basis: int) -> Array:
    return jnp.zeros((n_basis, *r.shape), r.dtype)


def _power(r: Array, pairs: Pairs, n_basis: int) -> Array:
    """(1 − T_k(x))/2, x = 1 − 2 (1 − r/R)^λ."""
    inside = r < pairs.cutoff
    x = 1 - 2 * jnp.where(inside, 1 - r / pairs.cutoff, 0.5) ** pairs.decay
    return jnp.stack([(1 - T) / 2 for T in chebyshev(x, n_basis)[1:]])


def _linear(r: Array, pairs: Pairs, n_basis: int) -> Array:
    """(1 − T_k(x))/2, x = 1 − r/R; not zero at R."""
    return jnp.stack([(1 - T) / 2 for T in chebyshev(1 - r / pairs.cutoff, n_basis)[1:]])


BASES = {"": _nothing, "SBessel": _bessel, "ChebExpCos": _exponential, "ChebPow": _power, "ChebLinear": _linear}
