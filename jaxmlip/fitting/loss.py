"""The loss of the trainers for a training loop of your own: what `jaxmlip.fit` minimises, as one differentiable call.

For each structure of a batch, with the weights of `jaxmlip.fitting.Weights`,

    L_s = w_E² (ΔE_s/N_s)² + Σ_components w_F² ΔF² + Σ_components w_σ² Δσ²,

and the loss is the mean of L_s over the structures, padding left out.
"""

from typing import NamedTuple

import ase
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlip.fitting.objective import Example, Weights, residuals
from jaxmlip.fitting.training.problem import Training, initial_params
from jaxmlip.graph.batch import Batch
from jaxmlip.potentials import Model, Potential


class LossTerms(NamedTuple):
    """Weighted squared residuals of each structure of a batch: their sum is L_s; 0 without a label and for padding."""

    energy: Float[Array, " n_graphs"]
    forces: Float[Array, " n_graphs"]
    stress: Float[Array, " n_graphs"]


def loss(model: Model, batch: Batch, weights: Weights) -> tuple[Float[Array, ""], LossTerms]:
    """The mean objective of the structures of a batch, without unit, and its terms for each structure.

    Differentiable by the model, inside `jax.jit` too. What the potential holds fixed (`Potential.fixed`, such as the
    normalisation of descriptors) has no gradient.

    >>> import jaxmlip
    >>> cells = jaxmlip.datasets.load("mo", split="test")[:2]
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> model, _ = jaxmlip.fit(potential, cells)
    >>> (batch,) = jaxmlip.batches(cells, potential.config)
    >>> value, terms = jaxmlip.loss(model, batch, jaxmlip.fitting.Weights(force_weight=0.1))
    >>> bool(abs(value - sum(map(sum, terms)) / 2) < 1e-6 * value)
    True

    Args:
        model: a potential with its parameters.
        batch: of `jaxmlip.batches` or `jaxmlip.graph.minibatches`, in the precision of the parameters.
        weights: of energies, forces and stresses; without weights of forces and stresses only energies are evaluated.
    """
    graph, labels, index = batch
    fixed = model.potential.fixed
    params = {name: jax.lax.stop_gradient(part) if name in fixed else part for name, part in model.params.items()}
    energy, forces, stress = residuals(model.potential, params, Example(graph, labels), weights)
    per_atom = jnp.sum(forces**2, axis=1)
    of_forces = jax.ops.segment_sum(per_atom, graph.atom_graph, graph.n_graphs)
    found = LossTerms(energy**2, of_forces, jnp.sum(stress**2, axis=1))
    n_structures = jnp.maximum(jnp.sum(jnp.asarray(index) >= 0), 1)
    return jnp.sum(found.energy + found.forces + found.stress) / n_structures.astype(energy.dtype), found


def initial(potential: Potential, atoms: list[ase.Atoms], *, seed: int = 0) -> Model:
    """A model to train: the family's random parameters, with offsets that fit the energies of ``atoms``.

    >>> import jaxmlip
    >>> cells = jaxmlip.datasets.load("mo", split="test")[:2]
    >>> model = initial(jaxmlip.build("aenet", species=("Mo",), cutoff=4.0), cells)
    >>> model.params["offsets"].shape
    (1,)

    Args:
        potential: what to train.
        atoms: labelled structures; of up to 64 of them scales and averages are taken, too.
        seed: of the random parameters.
    """
    return Model(potential, initial_params(potential, atoms, Training(seed=seed)))
