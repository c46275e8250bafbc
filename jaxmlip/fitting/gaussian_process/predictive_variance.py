"""How sure a fitted GAP is: variances of the energies of atoms and of structures.

With k the covariances of an energy with the sparse points, UᵀU = K_mm and RᵀR = K_mm + K_mn Λ⁻¹ K_nm,

    var = k(x, x) − ‖U⁻ᵀ k‖² + ‖R⁻ᵀ k‖²:

the prior, minus what the points can know, plus what the data left open. The noise of the data is not added.

References:
    Quiñonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005), equation 20b (deterministic training).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

from jaxmlip.data.structures import frames_of
from jaxmlip.fitting.gaussian_process.regression import Posterior
from jaxmlip.graph.batch import batch
from jaxmlip.potentials.base import safe_edges
from jaxmlip.potentials.model import Model


class Variance(NamedTuple):
    """Variances of energies in eV²; their roots are standard deviations in eV."""

    atoms: list[Float[np.ndarray, " n_atoms"]]  # one array a structure
    structures: Float[np.ndarray, " n_structures"]


def predict_variance(model: Model, structures: Any) -> Variance:
    """Variances under the posterior of a model that a Gaussian-process fit returned.

    The energies of a structure's atoms are correlated, so its variance is not their sum. The pair term counts with
    what the data left open of its points; that these span it is taken for granted.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("si", split="test")
    >>> potential = jaxmlip.build("gap", species=("Si",), cutoff=4.0, n_max=2, l_max=2)
    >>> settings = jaxmlip.fitting.GaussianProcessFit(n_sparse=10)
    >>> model, _ = jaxmlip.fit(potential, frames[:2], settings=settings)
    >>> variance = predict_variance(model, frames[:1])
    >>> variance.atoms[0].shape == (len(frames[0]),), bool(variance.structures[0] < model.potential.config.delta)
    (True, True)

    Args:
        model: as `jaxmlip.fit` returned it; its file does not hold what this needs.
        structures: one or several.

    Raises:
        ValueError: a model without a posterior.
    """
    found = model.posterior
    if found is None:
        raise ValueError(
            "this model has no posterior: give the model that a Gaussian-process fit returned in this session, not one "
            "from a file or with other parameters"
        )
    stages: Any = model.potential.stages
    config, prior_fn = model.potential.config, jax.jit(stages.prior)
    points = model.params["points"]
    n_first = int(found.used[: int(np.prod(points[stages.name].shape[:2]))].sum())
    of_atoms, of_structures = [], []
    with jax.enable_x64(True):
        points = jax.tree.map(jnp.asarray, points)
        for frame in frames_of(structures):
            graph = batch(frame, config)
            prior, k = (np.asarray(x) for x in prior_fn(points, graph, safe_edges(graph, config)))
            k = k[:, found.used]
            of_atoms.append(np.diag(prior) + _learned(found, k, n_first))
            of_structures.append(prior.sum() + _learned(found, k.sum(axis=0)[None], n_first)[0])
    return Variance(of_atoms, np.array(of_structures))


def _learned(found: Posterior, k: np.ndarray, n_first: int) -> np.ndarray:
    """−‖U⁻ᵀ k‖² + ‖R⁻ᵀ k‖² of each row; the first part without the pair term."""
    first = solve_triangular(found.prior[:n_first, :n_first], k[:, :n_first].T, trans=1)
    left = solve_triangular(found.triangle, k.T, trans=1)
    return np.sum(left**2, axis=0) - np.sum(first**2, axis=0)
