"""Networks of aenet before 2.0.4, whose angular Chebyshev polynomials had another domain: recognised and converted.

Old versions evaluated T_n at 2 cos θ/π − 1 (the domain [0, π]) instead of cos θ. A file does not name its version, but
its records tell: with T_n(cos θ), |A_n| ≤ A_0 for every atom, hence for the averages and extremes of the training set.
The old fingerprints are linear in the new ones, Ã = M A with T_n(2x/π − 1) = Σ_m M_nm T_m(x), so the first layer of a
network takes the change: W s (Ã − ā) = (W s M) (A − M⁻¹ ā). The converted network gives the old one's energies.

References:
    Artrith, Urban, Ceder, Phys. Rev. B 96, 014112 (2017), equation 6.
"""

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from jaxmlip.formats.aenet_network import NetworkFile

Array = NDArray[np.float64]
_ROUNDING = 1e-6  # relative, of averages printed with few digits


def has_old_domain(network: NetworkFile) -> bool:
    """Whether the recorded averages or extremes are impossible with T_n(cos θ)."""
    start, stop = _angular(network)
    if network.nodes[0] not in (stop, 2 * stop):  # of another set-up than it says, which the reader refuses
        return False
    averages = np.abs(network.average[start:stop])
    bounds = [averages]
    if network.extremes is not None:
        bounds.append(np.abs(network.extremes[:, start:stop]).max(axis=0))
    return any(bound[0] > 0 and bound.max() > bound[0] * (1 + _ROUNDING) for bound in bounds)


def in_new_domain(network: NetworkFile) -> NetworkFile:
    """The network for fingerprints with T_n(cos θ) that gives what this one gives for T_n(2 cos θ/π − 1)."""
    n_features, n_first = network.nodes[0], network.nodes[1]
    change = np.eye(n_features)
    start, stop = _angular(network)
    block = _polynomials(stop - start)
    for offset in range(0, n_features, stop):  # the set with weights of elements follows the one without
        change[offset + start : offset + stop, offset + start : offset + stop] = block
    deviation = np.sqrt(np.maximum(network.square - network.average**2, 0))
    scale = np.where(deviation > 1e-10, 1 / np.where(deviation > 1e-10, deviation, 1), 0)
    inverse = np.linalg.inv(change)
    average = inverse @ network.average
    new_deviation = np.sqrt(inverse**2 @ deviation**2)
    new_deviation = np.where(new_deviation > 1e-6, new_deviation, 1.0)  # any positive number serves
    square = average**2 + new_deviation**2
    new_deviation = np.sqrt(square - average**2)  # with the rounding that a reader of the file meets
    weights = network.weights.copy()
    first = weights[: n_first * (n_features + 1)].reshape((n_first, n_features + 1), order="F")
    first[:, :-1] = (first[:, :-1] * scale) @ change * new_deviation
    weights[: first.size] = first.ravel(order="F")
    return network._replace(weights=weights, average=average, square=square, extremes=None)


def _angular(network: NetworkFile) -> tuple[int, int]:
    """Where the angular functions of the first set stand."""
    _, radial_order, _, angular_order = network.parameters
    start = round(radial_order) + 1
    return start, start + round(angular_order) + 1


def _polynomials(n: int) -> Array:
    """M [n, n] with T_k(2x/π − 1) = Σ_m M_km T_m(x)."""
    matrix = np.zeros((n, n))
    argument = np.array([-1.0, 2 / np.pi])
    rows = [np.array([1.0]), argument]
    for _ in range(2, n):
        rows.append(chebyshev.chebsub(2 * chebyshev.chebmul(argument, rows[-1]), rows[-2]))
    for k in range(n):
        matrix[k, : len(rows[k])] = rows[k][:n]
    return matrix
