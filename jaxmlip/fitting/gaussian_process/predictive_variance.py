"""How sure a fitted GAP is: variances of the energies of atoms and of structures.

With k the covariances of an energy with the sparse points, UᵀU = K_mm and RᵀR = K_mm + K_mn Λ⁻¹ K_nm,

    var = k(x, x) − ‖U⁻ᵀ k‖² + ‖R⁻ᵀ k‖²:

the prior, minus what the points can know, plus what the data left open. The noise of the data is not added.

References:
    Quiñonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005), equation 20b (deterministic training).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import solve_triangular

from jaxmlip.descriptors.soap import soap_vectors
from jaxmlip.fitting.gaussian_process.regression import Posterior
from jaxmlip.graph.batch import Graph, batch
from jaxmlip.potentials.base import safe_edges
from jaxmlip.potentials.gap import GAPConfig, dot_product_kernel, pair_kernel, pair_types


class Variance(NamedTuple):
    """Variances of energies in eV²; their roots are standard deviations in eV."""

    atoms: list[Float[np.ndarray, " n_atoms"]]  # one array a structure
    structures: Float[np.ndarray, " n_structures"]


def predict_variance(found: Posterior, atoms: ase.Atoms | Sequence[ase.Atoms]) -> Variance:
    """Variances under the posterior ``found`` (`jaxmlip.fitting.posterior`).

    The energies of a structure's atoms are correlated, so its variance is not their sum. The pair term counts with
    what the data left open of its points; that these span it is taken for granted.

    >>> import jaxmlip
    >>> from jaxmlip.fitting.gaussian_process.regression import GaussianProcessFit, posterior
    >>> frames = jaxmlip.datasets.load("si", split="test")
    >>> potential = jaxmlip.build("gap", species=("Si",), cutoff=4.0, n_max=2, l_max=2)
    >>> found = posterior(potential, frames[:2], settings=GaussianProcessFit(n_sparse=10))
    >>> variance = predict_variance(found, frames[:1])
    >>> variance.atoms[0].shape == (len(frames[0]),), bool(variance.structures[0] < found.model.potential.config.delta)
    (True, True)
    """
    frames = [atoms] if isinstance(atoms, ase.Atoms) else list(atoms)
    config, points = found.model.potential.config, found.model.params["points"]
    n_soap = int(found.used[: points["soap"][..., 0].size].sum())
    of_atoms, of_structures = [], []
    with jax.enable_x64(True):
        for frame in frames:
            graph = batch(frame, config)
            prior, k = (np.asarray(x) for x in _covariances(config, jax.tree.map(jnp.asarray, points), graph))
            k = k[:, found.used]
            of_atoms.append(np.diag(prior) + _learned(found, k, n_soap))
            of_structures.append(prior.sum() + _learned(found, k.sum(axis=0)[None], n_soap)[0])
    return Variance(of_atoms, np.array(of_structures))


def _learned(found: Posterior, k: np.ndarray, n_soap: int) -> np.ndarray:
    """−‖U⁻ᵀ k‖² + ‖R⁻ᵀ k‖² of each row; the first part without the pair term."""
    soap = solve_triangular(found.prior[:n_soap, :n_soap], k[:, :n_soap].T, trans=1)
    left = solve_triangular(found.triangle, k.T, trans=1)
    return np.sum(left**2, axis=0) - np.sum(soap**2, axis=0)


@partial(jax.jit, static_argnums=0)
def _covariances(config: GAPConfig, points: dict[str, Array], graph: Graph) -> tuple[Array, Array]:
    """Prior covariances of the atoms with each other [n_atoms, n_atoms], and with all columns of points."""
    vectors = safe_edges(graph, config)
    x = soap_vectors(graph, vectors, config.soap)
    same = graph.species[:, None] == graph.species[None]
    prior = jnp.where(same, dot_product_kernel(config, x @ x.T), 0)
    own = jax.nn.one_hot(graph.species, len(config.species), dtype=x.dtype)
    k = dot_product_kernel(config, jnp.einsum("ad,smd->asm", x, points["soap"])) * own[:, :, None]
    parts = [k.reshape(graph.n_atoms, -1)]
    if "distance_2b" in points:
        kind = pair_types(config, graph)
        r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))[:, :, None]
        member = jnp.where(graph.mask[:, :, None], jax.nn.one_hot(kind, len(config.pairs), dtype=x.dtype), 0)
        pair = jnp.einsum("amp,amk->apk", member, pair_kernel(config, r, points["distance_2b"][kind]))
        parts.append(pair.reshape(graph.n_atoms, -1))
    return prior, jnp.concatenate(parts, axis=1)
