"""ASE's view of a model: a calculator that keeps its neighbour list between the steps of a simulation."""

from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from jaxtyping import Array, Float

from jaxmlip.graph.batch import Graph, Shape, batch, max_neighbors
from jaxmlip.graph.derivatives import atomic_stresses, voigt
from jaxmlip.graph.neighbors import Frame, neighbor_pairs, still_listed
from jaxmlip.potentials.base import Params, Potential, cast_params, energies_and_gradient, safe_edges
from jaxmlip.potentials.model import Model, Prediction, as_model, predict
from jaxmlip.potentials.registry import label_of


def calculator(model: Any, *, skin: float = 1.0, dtype: str = "float64") -> Calculator:
    """ASE calculator: energy, free_energy and energies (eV), forces (eV/Å), stress (eV/Å³, Voigt xx yy zz yz xz xy).

    Stresses of atoms are `jaxmlip.graph.derivatives.atomic_stresses`; as ASE's, they add up to the stress.

    Neighbours are found up to cutoff + ``skin`` and kept until a pair may have come within the cutoff unseen;
    changed numbers or periodicity rebuild them at once. Tables are padded, so that a rebuild rarely compiles.

    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> potential = zbl(ZBLConfig(species=("Li", "O"), cutoff=2.0))
    >>> atoms = ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1.0]])
    >>> atoms.calc = calculator(Model(potential, potential.init(None, None)))
    >>> bool(atoms.get_potential_energy() > 1), bool(atoms.get_forces()[1, 2] > 1)
    (True, True)

    Args:
        model: a potential with its parameters, or its file.
        skin: Å; larger rebuilds less often and computes more.
        dtype: "float64", or "float32" for speed.

    Raises:
        ValueError: ``skin`` is negative, ``dtype`` is another one; when used: an element that the potential does not
            know, or overlapping atoms.
        RuntimeError: when used: the energy or a force is not a finite number.
    """
    if not (np.isfinite(skin) and skin >= 0):
        raise ValueError(f"skin must be a number of Å, zero or more, got {skin}")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
    return _ModelCalculator(as_model(model), skin, dtype)


class _Kept(NamedTuple):
    """A graph, and the structure that it was built for."""

    graph: Graph
    atoms: ase.Atoms


class _ModelCalculator(Calculator):
    """What `calculator` returns; ASE asks for a class."""

    implemented_properties: ClassVar = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]

    def __init__(self, model: Model, skin: float, dtype: str) -> None:
        super().__init__()
        self.model, self.skin, self.dtype = model, skin, dtype
        self.n_builds = 0
        self._kept: _Kept | None = None
        with self._precision():
            self._model = Model(model.potential, cast_params(model.params, dtype))

        self.parameters = {"model": repr(model), "skin": skin, "dtype": dtype}

    def _get_name(self) -> str:
        """What ASE writes as the calculator's name."""
        return f"jaxmlip {label_of(self.model.potential.config)}"

    def __reduce__(self) -> tuple:
        """Pickled as what it was made of; results and neighbours are found anew."""
        return _ModelCalculator, (self.model, self.skin, self.dtype)

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        """Everything at once: forces and stress cost one backward pass together."""
        super().calculate(atoms, properties, system_changes)
        current: Any = self.atoms  # a copy: it stays as it is when the caller moves on
        stresses = None
        with self._precision():
            if "stresses" in (properties or ()) and current.cell.rank == 3:
                stresses = np.asarray(_stresses(self._model.potential, self._model.params, self._graph(current)), float)
            predicted = jax.device_get(predict(self._model, self._graph(current)))
        _check_finite(current, predicted)
        n = len(current)
        energy = float(predicted.energy[0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": np.asarray(predicted.atomic_energies[:n], float),
            "forces": np.asarray(predicted.forces[:n], float),
        }
        if current.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(np.asarray(predicted.stress[0], float))
            if stresses is not None:
                self.results["stresses"] = stresses[:n]
        elif {"stress", "stresses"} & set(properties or ()):
            raise PropertyNotImplementedError(
                f"{current.get_chemical_formula()} has no stress: its cell {current.cell.array.tolist()} has no "
                "volume; set a cell of three vectors to get one"
            )

    def _graph(self, atoms: ase.Atoms) -> Graph:
        cutoff = self.model.potential.config.cutoff
        if self._kept is None or not _still_valid(self._kept.atoms, atoms, cutoff, self.skin):
            self._kept = _Kept(self._build(atoms), atoms.copy())
            self.n_builds += 1
        graph = self._kept.graph
        return graph._replace(
            positions=jnp.asarray(atoms.positions, self.dtype), cell=jnp.asarray(atoms.cell.array[None], self.dtype)
        )

    def _build(self, atoms: ase.Atoms) -> Graph:
        config = self.model.potential.config
        reach = SimpleNamespace(species=config.species, cutoff=config.cutoff + self.skin)
        needed = max_neighbors(atoms, neighbor_pairs(atoms, reach.cutoff))
        width = 0 if self._kept is None else self._kept.graph.mask.shape[1]
        if needed > width or width > 2 * needed + 16:  # grow by a quarter more, so that a run compiles a few times only
            width = -(-(needed + needed // 4) // 8) * 8
        return batch(atoms, reach, shape=Shape(1, len(atoms), width), dtype=self.dtype)

    def _precision(self) -> Any:
        return jax.enable_x64(self.dtype == "float64")


@partial(jax.jit, static_argnums=0)
def _stresses(potential: Potential, params: Params, graph: Graph) -> Float[Array, "n_atoms 6"]:
    vectors = safe_edges(graph, potential.config)
    _, gradient = energies_and_gradient(potential, params, graph, vectors)
    return voigt(atomic_stresses(graph, vectors, jnp.where(graph.mask[:, :, None], gradient, 0)))


def _still_valid(old: ase.Atoms, new: ase.Atoms, cutoff: float, skin: float) -> bool:
    """Whether the neighbours of one structure serve another."""
    same = len(old) == len(new) and np.array_equal(old.numbers, new.numbers) and np.array_equal(old.pbc, new.pbc)
    if not same or not (np.isfinite(new.positions).all() and np.isfinite(new.cell.array).all()):
        return False
    frames = [Frame(atoms.positions, atoms.cell.complete().array, atoms.pbc) for atoms in (old, new)]
    return still_listed(*frames, cutoff=cutoff, skin=skin)


def _check_finite(atoms: ase.Atoms, predicted: Prediction) -> None:
    if np.isfinite(predicted.energy[0]) and np.isfinite(predicted.forces).all():
        return
    broken = np.flatnonzero(~np.isfinite(predicted.forces).all(axis=1)).tolist()
    raise RuntimeError(
        f"the potential gives no finite energy or forces for {atoms.get_chemical_formula()} (atoms {broken[:5]}): "
        "either its parameters contain NaN (check the fit's report), or atoms have come so near that the structure is "
        "far from its data (look at atoms.get_all_distances(mic=True), or add a ZBL repulsion)"
    )
