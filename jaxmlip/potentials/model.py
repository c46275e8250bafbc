"""`Model`: a potential with its parameters; energy, forces and stress of structures are derived here, once.

Conventions: eV, Å; F_i = −∂E/∂r_i; σ = (1/V) ∂E/∂ε, positive under tension (ASE's sign); all periodic images count.
"""

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.data.structures import is_structure
from jaxmlip.graph.batch import Graph
from jaxmlip.graph.derivatives import forces, per_graph, stress, virials
from jaxmlip.potentials.base import Params, Potential, energies_and_gradient, safe_edges
from jaxmlip.potentials.registry import label_of, potential_of
from jaxmlip.programs import program


class Prediction(NamedTuple):
    """Energies in eV, forces in eV/Å, stress in eV/Å³ (ASE sign; zero where the cell spans no volume)."""

    energy: Float[Array, " n_graphs"]
    forces: Float[Array, "n_atoms 3"]
    stress: Float[Array, "n_graphs 3 3"]
    atomic_energies: Float[Array, " n_atoms"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A potential with its parameters: what `fit` returns and `load` reads.

    A pytree whose leaves are the parameters: `jax.jit`, `jax.grad`, `jax.vmap` and optax work on it. Called with
    structures it predicts.

    >>> import ase, jaxmlip
    >>> potential = jaxmlip.build("snap", species=("Li", "O"), cutoff=4.0, twojmax=2)
    >>> model = Model(potential, potential.init(None, None))
    >>> model
    Model(SNAP of Li, O; cutoff 4 Å; 12 parameters)
    >>> model(ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]])).forces.shape
    (2, 3)
    """

    potential: Potential
    """Static: settings and pure functions."""
    params: Params
    """The leaves of the pytree."""
    posterior: Any = None
    """What a Gaussian process leaves open, for ``predict_variance``: of the model that `fit` returned, not of its file
    and not of changed parameters."""

    def __call__(self, structures: Any) -> Any:
        """`predict`."""
        return predict(self, structures)

    def __repr__(self) -> str:
        """One line: family, elements, cutoff, number of parameters."""
        family, elements, cutoff, number = self._facts().values()
        return f"Model({family} of {elements}; cutoff {cutoff}; {number} parameters)"

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in self._facts().items())
        return f"<table>{rows}</table>"

    def _facts(self) -> dict[str, str]:
        config = self.potential.config
        number = sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(self.params))
        known = {"family": label_of(config), "elements": ", ".join(config.symbols)}
        return known | {"cutoff": f"{config.cutoff:g} Å", "parameters": f"{number:,}"}

    def __reduce__(self) -> tuple:
        """Pickled as settings and arrays: the same bits."""
        return _rebuilt, (self.potential.config, jax.tree.map(np.asarray, self.params), self.posterior)


jax.tree_util.register_dataclass(Model, ["params"], ["potential"], drop_fields=["posterior"])


def _rebuilt(config: Any, params: Params, posterior: Any) -> Model:
    from jaxmlip.potentials.hyperparameters import with_settings

    return with_settings(Model(potential_of(config), params, posterior))


def as_model(model: Any) -> Model:
    """A model, or the one in a file.

    Raises:
        TypeError: something else; the message says what to do.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, (str, Path)):
        return import_module("jaxmlip.formats").load(model)  # a row below: files need models, not models files
    if isinstance(model, Potential):
        raise TypeError(
            "a potential has no parameters yet: fit it (model, _ = jaxmlip.fit(potential, atoms)), or give some "
            "(jaxmlip.Model(potential, potential.init(key, None)))"
        )
    raise TypeError(f"expected a jaxmlip.Model or the name of its file, got {type(model).__name__}")


def predict(model: Any, structures: Any) -> Any:
    """Energy, forces, stress and energies of atoms.

    >>> import ase, jax
    >>> from jaxmlip.graph import batch
    >>> from jaxmlip.potentials.snap import SNAPConfig, snap
    >>> potential = snap(SNAPConfig(species=("Li", "O"), cutoff=4.0, twojmax=2))
    >>> model = Model(potential, potential.init(jax.random.key(0), None))
    >>> atoms = ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.9]])
    >>> predict(model, batch(atoms, potential.config)).forces.shape
    (2, 3)
    >>> len(predict(model, [atoms, atoms]).forces)
    2

    Args:
        model: a potential with its parameters, or the name of a file.
        structures: a `Graph`, on which this is differentiable and compiles; or a structure of ASE or pymatgen, or
            several, which are evaluated in batches, in float64.

    Returns:
        `Prediction` of a graph, or of one structure; `Predicted`, with lists, of several.
    """
    model = as_model(model)
    if isinstance(structures, Graph):
        return predict_graph(model, structures)
    from jaxmlip.potentials.predictions import predict_atoms, single_prediction

    if is_structure(structures):
        return single_prediction(predict_atoms(model, [structures]))
    return predict_atoms(model, structures)


def _edges(model: Model, graph: Graph) -> tuple[Any, int]:
    """What counts as the same program, and the size of a call."""
    return (model.potential.config, graph.mask.shape), graph.mask.size


@program(_edges)
def predict_graph(model: Model, graph: Graph) -> Prediction:
    """All of a graph from one backward pass over the edge vectors.

    Formulas and references stand in `jaxmlip.graph.derivatives`.
    """
    vectors = safe_edges(graph, model.potential.config)
    energies, gradient = energies_and_gradient(model.potential, model.params, graph, vectors)
    gradient = jnp.where(graph.mask[:, :, None], gradient, 0)
    of_atoms = virials(vectors, gradient)
    return Prediction(per_graph(graph, energies), forces(graph, gradient), stress(graph, of_atoms), energies)


@program(_edges)
def predict_energy(model: Model, graph: Graph) -> Float[Array, " n_graphs"]:
    """Energies alone, in eV; differentiable with respect to ``graph.positions`` and ``graph.cell``."""
    vectors = safe_edges(graph, model.potential.config)
    energies = jnp.where(graph.atom_mask, model.potential.atomic_energies(model.params, graph, vectors), 0)
    return per_graph(graph, energies)
