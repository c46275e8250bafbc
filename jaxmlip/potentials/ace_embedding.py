"""How ACE makes an energy of the densities of an atom: embedding functions, and the fading near the core.

References:
    Drautz, Phys. Rev. B 99, 014104 (2019), equation 53.
    Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021): the functions of pacemaker.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmlip.potentials.ace_radial import switch_off

Embedding = Literal["FinnisSinclair", "FinnisSinclairShiftedScaled"]
_FLAT = 1e-10  # below, FinnisSinclair is a straight line
_LONGEST = 30.0  # exponent beyond which its bridge has ended


class Centre(NamedTuple):
    """A central element: E = Σ_p w_p F(ρ_p; m_p), and where its core begins."""

    embedding: str = "FinnisSinclair"
    parameters: tuple[float, ...] = (1.0, 1.0)  # w_1, m_1, w_2, m_2, …
    core: float = 100000.0  # ρ_cut, eV
    core_width: float = 250.0  # Δρ_cut, eV

    @property
    def n_densities(self) -> int:
        """P."""
        return len(self.parameters) // 2


def embedded(
    rho: Float[Array, "n_atoms n_densities"], species: Int[Array, " n_atoms"], centres: Sequence[Centre]
) -> Float[Array, " n_atoms"]:
    """Σ_p w_p F(ρ_p; m_p) of each atom, in eV, by the `Centre` of its species."""
    total = jnp.zeros_like(rho[:, 0])
    for p in range(rho.shape[1]):
        mine = [
            (c.embedding, *c.parameters[2 * p : 2 * p + 2]) if p < c.n_densities else ("", 0.0, 1.0) for c in centres
        ]
        for name, m in sorted({(name, m) for name, w, m in mine if w}):
            weights = np.array([w if (name, m) == (other, n) else 0.0 for other, w, n in mine])
            F = FUNCTIONS[name](rho[:, p], m)
            total = total + F * jnp.asarray(weights, rho.dtype)[species]
    return total


def faded(
    energy: Float[Array, " n_atoms"],
    core: Float[Array, " n_atoms"],
    species: Int[Array, " n_atoms"],
    centres: Sequence[Centre],
) -> Float[Array, " n_atoms"]:
    """E S(ρ_core; ρ_cut, Δρ_cut): what is left of an energy where the core repulsion ``core`` in eV is large."""
    end, width = (jnp.asarray([c[k] for c in centres], core.dtype)[species] for k in (2, 3))
    return energy * switch_off(core, end, width)


def _finnis_sinclair(rho: Array, m: float) -> Array:
    """±[(1 − h) a^m + L h a], a = |ρ|, h = exp(−(10⁶ a)³), L = 10^(6 − 6 m): a power with a finite slope at 0."""
    if m == 1:
        return rho
    slope, sign = 1e-6 ** (m - 1), jnp.where(rho < 0, -1, 1).astype(rho.dtype)
    steep = sign * rho > _FLAT
    a = jnp.where(steep, sign * rho, 1)
    exponent = jnp.minimum((1e6 * a) ** 3, 2 * _LONGEST)
    h = jnp.where(exponent > _LONGEST, 0, jnp.exp(-exponent))
    return jnp.where(steep, sign * ((1 - h) * a**m + slope * h * a), slope * rho)


def _shifted_scaled(rho: Array, m: float) -> Array:
    """±[(X + a)^m − Y], n = 1/m, X = n^(n/(1−n)) e^−a, Y = n^(1/(1−n)) e^−a, a = |ρ|."""
    if m == 1:
        return rho
    n = 1 / m
    sign = jnp.where(rho < 0, -1, 1).astype(rho.dtype)
    a = sign * rho
    decay = jnp.exp(-a)
    inside = n ** (n / (1 - n)) * decay + a
    power = jnp.sqrt(inside) if math.isclose(m, 0.5, rel_tol=0, abs_tol=0) else inside**m
    return sign * (power - n ** (1 / (1 - n)) * decay)


FUNCTIONS: dict[str, Callable[[Array, float], Array]] = {
    "FinnisSinclair": _finnis_sinclair,
    "FinnisSinclairShiftedScaled": _shifted_scaled,
}
