"""Extrapolation grade: how far structures and atoms lie outside of what a model was trained on.

The vector of a structure holds the derivatives of its energy by all trained parameters, that of an atom those of its
own energy. The active set are the training vectors of largest volume (`jaxmlip.evaluate.maxvol`); the grade of another
vector is its largest coefficient in them: up to 1 interpolation, up to about 2 safe, from about 10 on unreliable.

References:
    Podryabinkin, Shapeev, Comput. Mater. Sci. 140, 171 (2017): active learning by D-optimality.
    Gubaev, Podryabinkin, Hart, Shapeev, Comput. Mater. Sci. 156, 148 (2019), section 2.4: not only linear parameters.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxmlip import pretrained
from jaxmlip.data.structures import unlabelled
from jaxmlip.evaluate.maxvol import ActiveRows, maxvol, row_grades
from jaxmlip.files import atomic_path
from jaxmlip.fitting.training.frozen import frozen as in_groups
from jaxmlip.fitting.training.problem import split_params
from jaxmlip.graph.batch import Graph, batches
from jaxmlip.potentials.base import CPU_BLOCK, Params, Potential, map_blocks, safe_edges
from jaxmlip.potentials.model import Model

Mode = Literal["structures", "atoms"]


class ActiveSet(NamedTuple):
    """The training vectors that span the domain: ``rows.index`` counts structures, or atoms of all in turn."""

    mode: Mode
    rows: ActiveRows
    frozen: tuple[str, ...] = ()
    """Patterns of the names of parameters by which no derivatives are taken (`jaxmlip.fitting.training.frozen`)."""


class Grades(NamedTuple):
    """Extrapolation grades; those of atoms only where the active set is one of atoms."""

    structures: Float[np.ndarray, " n_structures"]
    atoms: list[Float[np.ndarray, " n_atoms"]] | None


def active_set(
    model: Model, atoms: Sequence[ase.Atoms], *, mode: Mode = "structures", frozen: Sequence[str] = ()
) -> ActiveSet:
    """The most informative of the training structures ``atoms``, or of their atoms.

    A small active set leaves parameters out: ``frozen=["radial*"]`` of a moment tensor potential keeps the derivatives
    by its linear coefficients.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:6]
    >>> model, _ = jaxmlip.fit(jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2), frames)
    >>> active = active_set(model, frames)
    >>> bool(grades(model, active, frames).structures.max() < 1.01)
    True

    Raises:
        ValueError: an energy of an atom that depends on more than its neighbours, with ``mode="atoms"``.
    """
    vectors = _vectors(in_groups(model, frozen) if frozen else model, atoms, mode)
    return ActiveSet(mode, maxvol(np.concatenate(vectors)), tuple(frozen))


def grades(model: Model, active: ActiveSet, atoms: Sequence[ase.Atoms]) -> Grades:
    """The grade of each structure; in an active set of atoms it is that of its worst atom.

    Not run here, see `active_set`; a structure beyond 2 extrapolates:

    >>> worst = grades(model, active, frames).structures.max()  # doctest: +SKIP
    """
    vectors = _vectors(in_groups(model, active.frozen) if active.frozen else model, atoms, active.mode)
    found = [row_grades(active.rows, rows) for rows in vectors]
    worst = np.array([one.max(initial=0.0) for one in found])
    return Grades(worst, found if active.mode == "atoms" else None)


def grades_by_halves(
    model: Model, atoms: Sequence[ase.Atoms], *, mode: Mode = "structures", frozen: Sequence[str] = (), seed: int = 0
) -> Float[np.ndarray, " n_structures"]:
    """How far structures lie from each other: the grade of each over the other half of them, dealt at random.

    About 1 where half of them span the domain; of few structures and many parameters very large.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:6]
    >>> model, _ = jaxmlip.fit(jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2), frames)
    >>> bool(grades_by_halves(model, frames).max() > 10)
    True

    Raises:
        ValueError: fewer than two structures; or as `active_set`.
    """
    if len(atoms) < 2:
        raise ValueError(f"two halves need at least two structures, got {len(atoms)}")
    vectors = _vectors(in_groups(model, frozen) if frozen else model, atoms, mode)
    order = np.random.default_rng(seed).permutation(len(atoms))
    found = np.empty(len(atoms))
    for half, other in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        active = maxvol(np.concatenate([vectors[int(k)] for k in other]))
        found[half] = [row_grades(active, vectors[int(k)]).max(initial=0.0) for k in half]
    return found


def select(
    model: Model, train: Sequence[ase.Atoms], pool: Sequence[ase.Atoms], *, mode: Mode = "structures"
) -> list[int]:
    """Which structures of a pool belong in the training set: those that enter the active set of both together.

    The most informative ones first: by their grade over the training set alone.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:6]
    >>> model, _ = jaxmlip.fit(jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2), frames)
    >>> set(select(model, frames[:4], frames[4:])) <= {0, 1}
    True
    """
    known, new = _vectors(model, train, mode), _vectors(model, pool, mode)
    sizes = [len(rows) for rows in (*known, *new)]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    both = maxvol(np.concatenate([*known, *new]))
    chosen = {int(owner[k]) - len(known) for k in both.index if k >= 0 and owner[k] >= len(known)}
    before = maxvol(np.concatenate(known))
    worst = {k: float(row_grades(before, new[k]).max()) for k in chosen}
    return sorted(chosen, key=lambda k: -worst[k])


class GradeMonitor:
    """Watches a run of ASE: ``dynamics.attach(GradeMonitor(model, active, atoms), interval=10)``.

    Keeps ``(step, grade)`` in ``found``; above ``stop`` it ends the run with an error that says where.
    """

    def __init__(self, model: Model, active: ActiveSet, atoms: ase.Atoms, *, stop: float = 10.0):
        self.model, self.active, self.atoms, self.stop = model, active, atoms, stop
        self.found: list[tuple[int, float]] = []
        self.calls = 0

    def __call__(self) -> None:
        """Grade the structure as it is now.

        Raises:
            RuntimeError: the grade is above ``stop``.
        """
        grade = float(grades(self.model, self.active, [self.atoms]).structures[0])
        self.found.append((self.calls, grade))
        self.calls += 1
        if grade > self.stop:
            raise RuntimeError(
                f"extrapolation grade {grade:.1f} at check {self.calls - 1} of the run, above {self.stop:g}: the "
                "structure has left the training data; add it to them and fit again"
            )


def save_active_set(active: ActiveSet, path: str | Path) -> None:
    """Write an active set as ``.npz``.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/active.npz"
    >>> save_active_set(load_active_set("rocksalt-mtp"), path)
    >>> load_active_set(path).frozen
    ('radial',)
    """
    with atomic_path(path) as temporary:
        frozen, rows = np.array(active.frozen, str), active.rows
        np.savez_compressed(temporary, mode=active.mode, index=rows.index, inverse=rows.inverse, frozen=frozen)


def load_active_set(path: str | Path) -> ActiveSet:
    """What `save_active_set` wrote; or the domain of a potential in `jaxmlip.pretrained`, by its name.

    >>> load_active_set("rocksalt-mtp").mode
    'atoms'

    Raises:
        ValueError: a shipped potential without a domain.
    """
    if str(path) in pretrained.available():
        shipped = pretrained.files(str(path)).active_set
        if shipped is None:
            raise ValueError(
                f"no active set comes with {path}: that of so many parameters would be larger than the package; make "
                "one from your own structures with `active_set`"
            )
        path = shipped
    with np.load(path, allow_pickle=False) as content:
        mode: Any = str(content["mode"])
        frozen = content["frozen"].tolist() if "frozen" in content else []
        return ActiveSet(mode, ActiveRows(content["index"], content["inverse"]), tuple(frozen))


def structure_rows(model: Model, atoms: Sequence[ase.Atoms]) -> Float[np.ndarray, "n_structures n_params"]:
    """Derivatives of the energy of each structure by all trained parameters: what grades are made of."""
    return np.concatenate(_vectors(model, atoms, "structures"))


def _vectors(model: Model, atoms: Sequence[ase.Atoms], mode: Mode) -> list[np.ndarray]:
    """The rows of each structure: one, or one an atom."""
    if mode == "atoms" and not model.potential.local:
        raise ValueError(
            f"{type(model.potential.config).__name__} has no energies of atoms alone: use mode='structures'"
        )
    if not split_params(model.potential, model.params)[0]:
        raise ValueError(
            "this model has no trained parameters, of which grades are made: grade with what it was made of"
        )
    result: list[Any] = [None] * len(atoms)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), model.params)
        for one in batches(unlabelled(atoms), model.potential.config, max_atoms=128):
            rows = np.asarray(_rows(model.potential, params, one.graph))
            for k, _, mine in one.members():
                result[k] = rows[mine] if mode == "atoms" else rows[mine].sum(axis=0, keepdims=True)
    return result


@partial(jax.jit, static_argnums=0)
def _rows(potential: Potential, params: Params, graph: Graph) -> Float[Array, "n_atoms n_params"]:
    """∂E_i/∂θ of each atom for all trained parameters θ."""
    trained, fixed = split_params(potential, params)
    vector, unravel = ravel_pytree(trained)

    def of_block(part: Graph, vectors: Array) -> Array:
        def energies(theta: Array) -> Array:
            found = potential.atomic_energies({**unravel(theta), **fixed}, part, vectors)
            return jnp.where(part.atom_mask, found, 0)

        return jax.jacrev(energies)(vector)

    vectors = safe_edges(graph, potential.config)
    if not potential.local:
        return of_block(graph, vectors)
    return map_blocks(of_block, graph, vectors, min(CPU_BLOCK, graph.n_atoms))
