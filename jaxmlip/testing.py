"""Conformance checks: what every potential must do. Run them on a family of your own with `check_all`.

All cases are padded to one shape, so that a family compiles once. Tolerances are for float64: rounding is 1e-16 of the
largest term and sums have some 10⁴ terms, hence 1e-10 relative to the largest value; central differences of
fourth order with steps of 2e-4 keep 1e-6 of the largest value (error of the step 1e-14, of rounding 1e-12/2e-4).
"""

import copy
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ase
import ase.build
import jax
import jax.numpy as jnp
import numpy as np

from jaxmlip.graph.batch import Graph, Shape, batch, max_neighbors
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.base import Params, Potential
from jaxmlip.potentials.model import Model, Prediction, predict, predict_graph
from jaxmlip.potentials.registry import family_of
from jaxmlip.programs import work

ELEMENTS = ("Li", "O", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
EXACT, DIFFERENCE = 1e-10, 1e-6
STEP = 2e-4  # Å, and strain


class Subject(NamedTuple):
    """A potential under test, with parameters that are not zero and the shape that all cases fit in."""

    potential: Potential
    params: Params
    shape: Shape

    def predict(self, frames: ase.Atoms | list[ase.Atoms]) -> Prediction:
        """Prediction without the padding."""
        frames = [frames] if isinstance(frames, ase.Atoms) else frames
        n_atoms = sum(map(len, frames))
        graph = batch(frames, self.potential.config, shape=self.shape)
        energy, forces, stress, atomic = jax.tree.map(np.asarray, predict(Model(self.potential, self.params), graph))
        n_graphs = len(frames)
        return Prediction(energy[:n_graphs], forces[:n_atoms], stress[:n_graphs], atomic[:n_atoms])


def cases(cutoff: float) -> dict[str, list[ase.Atoms]]:
    """The structures of the suite: each is a batch of one or several."""
    rng = np.random.default_rng(0)
    skewed = ase.Atoms(
        "LiO", [[0, 0, 0], [1.1, 1.3, 1.0]], cell=[[2.9, 0, 0], [1.4, 2.6, 0], [0.9, -0.7, 2.7]], pbc=True
    )
    cell = ase.build.bulk("LiO", "rocksalt", a=4.2).repeat((3, 3, 2))
    metals = np.flatnonzero(cell.numbers == 3)
    cell.symbols[metals] = [ELEMENTS[k % 11] if k % 11 != 1 else "Li" for k in range(len(metals))]
    cell.rattle(0.1, seed=1)
    wire = ase.Atoms(
        "LiNiO", rng.uniform(0, 3, (3, 3)) + np.diag([0, 2, 4]), cell=[4.3, 9, 9], pbc=[True, False, False]
    )
    return {
        "isolated atom": [ase.Atoms("Mn")],
        "dimer": [ase.Atoms("LiO", [[0, 0, 0], [0.4, 0.3, 0.45 * cutoff]])],
        "one-atom cell": [ase.Atoms("Ni", cell=[[0, 1.8, 1.9], [1.7, 0, 1.8], [1.8, 1.9, 0]], pbc=True)],
        "skewed cell": [skewed],
        "batch of three": [skewed, ase.Atoms("O"), wire],
        "eleven elements": [cell],
    }


def subject(potential: Potential, params: Params | None = None, *, seed: int = 0) -> Subject:
    """``potential`` ready for the checks; without ``params``, its initial ones plus noise."""
    if params is None:
        params = _noisy(potential.init(jax.random.key(seed), None), seed)
    frames = [frame for group in cases(potential.config.cutoff).values() for frame in group]
    width = max(max_neighbors(f, neighbor_pairs(f, potential.config.cutoff)) for f in frames)
    return Subject(potential, params, Shape(3, 80, int(1.5 * width)))


def check_forces(subject: Subject, frames: list[ase.Atoms]) -> None:
    """F = −∂E/∂r, along random directions."""
    forces = subject.predict(frames).forces
    for seed in range(2):
        directions = [np.random.default_rng(seed).normal(size=(len(f), 3)) for f in frames]
        slope = _difference(subject, frames, lambda f, k, h: _moved(f, h * directions[k]))  # noqa: B023
        expected = -np.sum(forces * np.concatenate(directions))
        _close(slope.sum(), expected, DIFFERENCE, np.abs(forces).sum(), "forces are not −∂E/∂r")


def check_stress(subject: Subject, frames: list[ase.Atoms]) -> None:
    """σ = (1/V) ∂E/∂ε, along random strains."""
    prediction = subject.predict(frames)
    volumes = np.array([abs(np.linalg.det(f.cell.array)) for f in frames])
    strain = np.random.default_rng(2).normal(size=(3, 3))
    strain = strain + strain.T
    slope = _difference(subject, frames, lambda f, k, h: _strained(f, np.eye(3) + h * strain))
    expected = volumes * np.einsum("gxy,xy->g", prediction.stress, strain)
    slope = np.where(volumes > 0, slope, 0)
    scale = np.abs(volumes[:, None, None] * prediction.stress).max(initial=0) + np.abs(prediction.forces).max()
    _close(slope, expected, DIFFERENCE, scale, "stress is not (1/V) ∂E/∂ε")


def check_invariance(subject: Subject, frames: list[ase.Atoms]) -> None:
    """Translation, rotation, reflection, permutation, and atoms moved by lattice vectors."""
    base = subject.predict(frames)
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for name, matrix in (("rotation", rotation * np.linalg.det(rotation)), ("reflection", np.diag([1.0, 1.0, -1.0]))):
        turned = subject.predict([_strained(f, matrix.T) for f in frames])
        _same(turned, base._replace(forces=base.forces @ matrix.T, stress=matrix @ base.stress @ matrix.T), name)
    _same(subject.predict([_moved(f, [1.7, -3.1, 0.4]) for f in frames]), base, "translation")
    images = [_moved(f, (rng.integers(-2, 3, (len(f), 3)) * f.pbc) @ f.cell.array) for f in frames]
    _same(subject.predict(images), base, "moving atoms by lattice vectors")
    orders = [rng.permutation(len(f)) for f in frames]
    starts = np.cumsum([0] + [len(f) for f in frames])
    order = np.concatenate([start + o for start, o in zip(starts, orders)])
    permuted = subject.predict([f[o] for f, o in zip(frames, orders)])
    moved = base._replace(forces=base.forces[order], atomic_energies=base.atomic_energies[order])
    _same(permuted, moved, "permutation")


def check_batch(subject: Subject, frames: list[ase.Atoms]) -> None:
    """A batch gives what its structures give one by one, whatever else is in it."""
    base = subject.predict(frames)
    start = 0
    for k, frame in enumerate(frames):
        alone = subject.predict(frame)
        rows = slice(start, start + len(frame))
        start += len(frame)
        part = Prediction(base.energy[[k]], base.forces[rows], base.stress[[k]], base.atomic_energies[rows])
        _same(alone, part, f"structure {k} alone")


def check_padding(subject: Subject, frames: list[ase.Atoms]) -> None:
    """Padding contributes nothing: the smallest shape gives the same."""
    n_atoms = sum(map(len, frames))
    width = max(max_neighbors(f, neighbor_pairs(f, subject.potential.config.cutoff)) for f in frames)
    tight = subject._replace(shape=Shape(len(frames), n_atoms, width))
    _same(tight.predict(frames), subject.predict(frames), "padding")


def check_extensive(subject: Subject, frames: list[ase.Atoms]) -> None:
    """A doubled cell has twice the energy, the same forces and stress."""
    for frame in frames:
        if not frame.pbc.any() or 2 * len(frame) > subject.shape.n_atoms:
            continue
        double = frame.repeat([2 if frame.pbc[0] else 1, 1, 1])
        base, large = subject.predict(frame), subject.predict(double)
        copies = len(double) // len(frame)
        twice: list[Any] = [np.concatenate([x] * copies) for x in (base.forces, base.atomic_energies)]
        volume = abs(np.linalg.det(frame.cell.array)) > 0
        stress = base.stress if volume else large.stress
        _same(large, Prediction(base.energy * len(double) / len(frame), twice[0], stress, twice[1]), "a doubled cell")


def check_second_derivatives(subject: Subject, frames: list[ase.Atoms]) -> None:
    """The gradient of a force loss is finite, padding included: what training needs."""
    graph = batch(frames, subject.potential.config, shape=subject.shape)
    slopes = _force_loss_gradient(subject.potential, subject.params, graph)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes)):
        raise AssertionError("the gradient of a loss of forces is not finite")


def check_compiles_once(subject: Subject, frames: list[ase.Atoms]) -> None:
    """New positions and parameters of the same shape compile nothing, nor does a factory called again."""
    with work(math.inf):  # compiled with all optimisation from the start, or a quick program may give way to another
        subject.predict(frames)
        before = predict_graph.n_programs()
        changed = subject._replace(params=jax.tree.map(lambda x: 2 * x, subject.params))
        changed.predict([_moved(frame, 0.1) for frame in frames])
    if predict_graph.n_programs() != before:
        raise AssertionError("predict compiled again for a shape that it knew")
    config = subject.potential.config
    if family_of(config).build(copy.copy(config)) != subject.potential:
        raise AssertionError("the factory makes another potential of equal settings: decorate it with `factory`")


def check_single_precision(subject: Subject, frames: list[ase.Atoms]) -> None:
    """The dtype follows the input, and float32 is close: 1e-3 of the largest value, since large terms cancel."""
    graph = batch(frames, subject.potential.config, shape=subject.shape, dtype=jnp.float32)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), subject.params)
    single, double = predict(Model(subject.potential, params), graph), subject.predict(frames)
    wrong = [name for name, value in single._asdict().items() if value.dtype != jnp.float32]
    if wrong:
        raise AssertionError(f"float32 input gives float64 {', '.join(wrong)}")
    _close(np.asarray(single.forces)[: len(double.forces)], double.forces, 1e-3, _scale(double), "float32 forces")


def check_cutoff(subject: Subject, frames: list[ase.Atoms]) -> None:
    """Energy and forces go to those of isolated atoms as a pair reaches the cutoff, without a step."""
    del frames
    cutoff = subject.potential.config.cutoff
    pairs = [ase.Atoms("LiO", [[0, 0, 0], [0, 0, cutoff * x]]) for x in (0.5, 1 - 1e-6, 1 + 1e-6)]
    near, inside, outside = (subject.predict(pair) for pair in pairs)
    scale = max(np.abs(near.forces).max(), np.abs(near.energy - outside.energy).max())
    _close(inside.energy, outside.energy, 1e-9, scale, "the energy has a step at the cutoff")
    _close(inside.forces, np.zeros((2, 3)), 1e-4, scale, "the force has a step at the cutoff")
    _close(outside.forces, np.zeros((2, 3)), EXACT, scale, "a force acts beyond the cutoff")


def check_file(subject: Subject, frames: list[ase.Atoms]) -> None:
    """Saved and loaded, the model is the same to the bit."""
    from jaxmlip.formats import load, save

    del frames
    with tempfile.TemporaryDirectory() as folder:
        save(Model(subject.potential, subject.params), Path(folder) / "model.npz")
        model = load(Path(folder) / "model.npz")
    if model.potential.config != subject.potential.config:
        raise AssertionError("the loaded configuration differs")
    same = jax.tree.map(lambda a, b: np.array_equal(a, b) and a.dtype == b.dtype, model.params, subject.params)
    if not all(jax.tree.leaves(same)):
        raise AssertionError("the loaded parameters differ")


EVERY_CASE: tuple[Callable, ...] = (check_forces, check_stress, check_invariance, check_batch, check_extensive)
ONE_CASE: dict[Callable, str] = {
    check_padding: "batch of three",
    check_second_derivatives: "batch of three",
    check_compiles_once: "skewed cell",
    check_single_precision: "eleven elements",
    check_cutoff: "dimer",
    check_file: "dimer",
}


def check_all(potential: Potential, params: Params | None = None) -> None:
    """All checks; needs 64-bit numbers (``jax.enable_x64(True)``) and species that include `ELEMENTS`.

    Raises:
        AssertionError: the first thing that the potential does wrong.
    """
    tested = subject(potential, params)
    structures = cases(potential.config.cutoff)
    for check in EVERY_CASE:
        for frames in structures.values():
            check(tested, frames)
    for check, name in ONE_CASE.items():
        check(tested, structures[name])


@partial(jax.jit, static_argnums=0)
def _force_loss_gradient(potential: Potential, params: Params, graph: Graph) -> Any:
    def loss(params: Params, positions: jax.Array) -> jax.Array:
        return jnp.sum(predict(Model(potential, params), graph._replace(positions=positions)).forces ** 2)

    return jax.grad(loss, argnums=(0, 1))(params, graph.positions)


def _noisy(params: Params, seed: int) -> Params:
    """Ten percent of each number; 0.1 where it is zero."""
    rng = np.random.default_rng(seed)

    def noisy(x: Any) -> np.ndarray:
        x = np.asarray(x)
        return x + 0.1 * np.where(x == 0, 1, np.abs(x)) * rng.normal(size=x.shape)

    return jax.tree.map(noisy, params)


def _moved(frame: ase.Atoms, displacement: Any) -> ase.Atoms:
    result = frame.copy()
    result.positions += displacement
    return result


def _strained(frame: ase.Atoms, matrix: np.ndarray) -> ase.Atoms:
    result = frame.copy()
    result.set_cell(frame.cell.array @ matrix)
    result.positions = frame.positions @ matrix
    return result


def _difference(subject: Subject, frames: list[ase.Atoms], changed: Callable) -> np.ndarray:
    """Central difference of fourth order of the energies along a change, ``[n_graphs]``."""

    def energy(steps: int) -> np.ndarray:
        moved = [changed(frame, k, steps * STEP) for k, frame in enumerate(frames)]
        return np.asarray(subject.predict(moved).energy)

    return (8 * (energy(1) - energy(-1)) - (energy(2) - energy(-2))) / (12 * STEP)


def _scale(prediction: Any) -> float:
    return max(float(np.abs(x).max(initial=1e-12)) for x in (prediction.atomic_energies, prediction.forces))


def _same(found: Any, expected: Any, what: str) -> None:
    for name in Prediction._fields:
        message = f"{what} changes the {name.replace('_', ' ')}"
        _close(getattr(found, name), getattr(expected, name), EXACT, _scale(expected), message)


def _close(found: Any, expected: Any, tolerance: float, scale: float, message: str) -> None:
    error = float(np.abs(np.asarray(found) - np.asarray(expected)).max(initial=0))
    if not error <= tolerance * max(scale, 1e-6):
        raise AssertionError(f"{message}: off by {error:.2e}, allowed {tolerance:.0e} of {scale:.2e}")
