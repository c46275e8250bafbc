"""Real spherical harmonics and the couplings of their representations, in the conventions of e3nn.

Components of degree l are ordered m = −l … l with y as the polar axis, so that l = 1 is (x, y, z); "component"
normalisation, |Y_l|² = 2l + 1 on the unit sphere. Everything is a polynomial of the unit vector.

References:
    Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), sections 5.2 and 8.2.
    Geiger and Smidt, arXiv:2207.09453 (e3nn), section 3.
"""

from functools import lru_cache
from math import factorial
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from jaxmlip.basis.harmonics import spherical_harmonics


def component_harmonics(x: Any, y: Any, z: Any, l_max: int) -> list[Any]:
    """All (l_max + 1)² components Y_lm of unit vectors, degree by degree.

    The orthonormal ones times √4π, with the axes in turn: z, x, y for x, y, z.

    >>> [round(float(Y), 6) for Y in component_harmonics(1.0, 0.0, 0.0, 1)]
    [1.0, 1.732051, 0.0, 0.0]
    """
    return [float(np.sqrt(4 * np.pi)) * Y for degree in spherical_harmonics(z, x, y, l_max) for Y in degree]


@lru_cache
def wigner_3j(l1: int, l2: int, l3: int) -> Float[np.ndarray, "m1 m2 m3"]:
    """The invariant tensor of three real representations, of norm 1: (a ⊗ b)_m3 = Σ C[m1, m2, m3] a_m1 b_m2.

    Clebsch-Gordan coefficients between the real components Q Y; its sign is that of e3nn.

    >>> wigner_3j(1, 1, 0)[:, :, 0].round(4).tolist()
    [[0.5774, 0.0, 0.0], [0.0, 0.5774, 0.0], [0.0, 0.0, 0.5774]]
    """
    C = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            C[m1 + l1, m2 + l2, m1 + m2 + l3] = clebsch_gordan((l1, m1), (l2, m2), (l3, m1 + m2))
    real = np.einsum("ai,bj,ck,abc->ijk", _to_real(l1), _to_real(l2), _to_real(l3).conj(), C).real
    return real / np.linalg.norm(real)


@lru_cache(maxsize=4096)
def clebsch_gordan(first: tuple[int, int], second: tuple[int, int], total: tuple[int, int]) -> float:
    """⟨l1 m1 l2 m2 | l3 m3⟩ of three (l, m) by Racah's sum, m3 = m1 + m2; Condon and Shortley's signs.

    >>> round(clebsch_gordan((1, 1), (1, -1), (0, 0)), 6)
    0.57735
    """
    (l1, m1), (l2, m2), (l3, m3) = first, second, total
    result = 0.0
    for k in range(l1 + l2 - l3 + 1):
        terms = (k, l1 + l2 - l3 - k, l1 - m1 - k, l2 + m2 - k, l3 - l2 + m1 + k, l3 - l1 - m2 + k)
        if min(terms) >= 0:
            result += (-1) ** k / np.prod([float(factorial(n)) for n in terms])
    above = (l3 + l1 - l2, l3 - l1 + l2, l1 + l2 - l3, l3 + m3, l3 - m3, l1 - m1, l1 + m1, l2 - m2, l2 + m2)
    size = (2 * l3 + 1) * np.prod([float(factorial(n)) for n in above]) / factorial(l1 + l2 + l3 + 1)
    return float(np.sqrt(size) * result)


def _to_real(degree: int) -> Complex[np.ndarray, "m m"]:
    """Rows: complex components m; columns: real ones. The phase (−i)^l makes all couplings real."""
    Q = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    Q[degree, degree] = 1
    for m in range(1, degree + 1):
        Q[degree - m, [degree + m, degree - m]] = np.array([1, -1j]) / np.sqrt(2)
        Q[degree + m, [degree + m, degree - m]] = (-1) ** m * np.array([1, 1j]) / np.sqrt(2)
    return (-1j) ** degree * Q
