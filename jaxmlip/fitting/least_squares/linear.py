"""Fitting potentials whose energy is linear in their coefficients: SNAP, qSNAP, MTP with its radial functions fixed.

Weighted rows of energies per atom, forces and stresses stream in batches into a QR factor (`least_squares`). Graphs of
some thousand structures are in memory at once, and the square of the number of columns; of packed data nothing else.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import ase
import jax
import numpy as np

from jaxmlip.config import Bounds, Count, NotNegative, unknown_name
from jaxmlip.data.packed import PackedData
from jaxmlip.fitting.committee import Folds
from jaxmlip.fitting.design import design
from jaxmlip.fitting.history import History
from jaxmlip.fitting.least_squares.ridge_regression import Solution, StreamedQR, solve
from jaxmlip.fitting.objective import NOTHING, Weights, check_labels, multipliers, n_atoms, structure_factors
from jaxmlip.fitting.rows import WeightedRows, weighted_rows
from jaxmlip.fitting.survey import survey
from jaxmlip.graph.batch import batches
from jaxmlip.graph.loading import makers
from jaxmlip.potentials.base import Linear, Params, Potential, initial
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.offsets import given_offsets
from jaxmlip.programs import work
from jaxmlip.progress import Report, track

_FEW_FEATURES = 100  # whose rows of many atoms stay in a CPU's cache
_PIECE_ATOMS = 40_000  # whose graphs are in memory together


@dataclasses.dataclass(frozen=True)
class LinearFit(Weights):
    """Weights and regularisation of a linear fit.

    The fit minimises Σ w_E² (ΔE/N)² + Σ w_F² ΔF² + Σ w_σ² Δσ² + ridge: residuals in eV/atom, eV/Å and eV/Å³ are
    multiplied by the weights below, then squared.
    """

    ridge: NotNegative | Literal["folds", "gcv"] = "folds"
    """Strength on coefficients of columns scaled to unit norm (of ACE, which says how rough its functions are, on
    coefficients times roughness); or chosen by cross-validation: "folds" leaves groups of structures out, "gcv" single
    rows."""
    n_folds: Annotated[int, Bounds(2)] = 5
    """Parts that the structures are dealt into for "folds"."""
    truncation: NotNegative | None = None
    """Drop singular values below this fraction of the largest."""
    batch_atoms: Count | None = None
    """Atoms whose rows are computed together; limits the memory. None: 512, of more than 100 features an atom 128."""


def fit_linear(
    start: Potential | Model,
    atoms: Sequence[ase.Atoms],
    *,
    settings: LinearFit | None = None,
    show_progress: bool | Report = False,
) -> tuple[Model, History]:
    """Coefficients and offsets of a potential from the labels of ``atoms``, in float64.

    Parameters that the energy is not linear in (the radial functions of MTP) keep the values that they have in the
    model ``start``; for a potential these are the initial ones.

    Raises:
        ValueError: the potential is not linear, no labels that carry weight, a label that is not finite, or an
            element that the potential does not know.
    """
    started, cpu = time.perf_counter(), time.process_time()
    with jax.enable_x64(True):
        task = _task(start, LinearFit() if settings is None else settings)
        problem = _stream(task, atoms, show_progress)
    designed = time.perf_counter()
    solution = _solved(task, problem, task.settings.ridge)
    times = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "design_seconds": designed - started,
    }
    return Model(task.start.potential, _params(task, solution)), _history(problem, solution, times)


def fit_linear_members(
    start: Potential | Model, atoms: Sequence[ase.Atoms], settings: LinearFit, folds: Folds
) -> tuple[Model, History]:
    """Members of a committee, each fitted without its fold: rows are computed once for all of them.

    Their ridge is that of a fit to all structures; "folds" chooses it by the same folds.

    Raises:
        ValueError: as `fit_linear`.
    """
    started = time.perf_counter()
    with jax.enable_x64(True):
        task = _task(start, settings)
        problem = _stream(task, atoms, False, folds)
    ridge = _solved(task, problem, settings.ridge).ridge
    found = [_solved(task, problem.without(str(k)), ridge) for k in range(folds.number)]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *[_params(task, one) for one in found])
    return Model(task.start.potential, params), History({"ridge": ridge, "seconds": time.perf_counter() - started}, [])


class _Task(NamedTuple):
    """What is fitted, and how."""

    start: Model
    settings: LinearFit
    given: np.ndarray  # offsets that are not fitted, eV

    @property
    def n_offsets(self) -> int:
        return len(self.start.potential.config.species)


def _task(start: Potential | Model, settings: LinearFit) -> _Task:
    potential = start.potential if isinstance(start, Model) else start
    if not isinstance(potential.stages, Linear):
        raise ValueError(f"{type(potential.config).__name__} is not linear in its coefficients: this fit cannot do it")
    begun = start.params if isinstance(start, Model) else initial(potential, 0, None)
    fixed: dict = jax.tree.map(lambda x: np.asarray(x, np.float64), begun)
    given = given_offsets(potential.config, settings.offsets, fixed if isinstance(start, Model) else None)
    return _Task(Model(potential, fixed), settings, given)


def _solved(task: _Task, problem: StreamedQR, ridge: Any) -> Solution:
    stages: Any = task.start.potential.stages
    penalised = np.arange(problem.n_columns) >= task.n_offsets
    options = {"penalty_mask": penalised, "column_scale": stages.roughness is None}
    return solve(problem, ridge=ridge, truncation=task.settings.truncation, **options)


def _params(task: _Task, solution: Solution) -> Params:
    """Offsets and coefficients, the other parameters as they are."""
    fixed: dict[str, Any] = task.start.params
    stages: Any = task.start.potential.stages
    coefficients = solution.coefficients / _roughness(stages, fixed)
    found = coefficients[task.n_offsets :].reshape(fixed["coefficients"].shape)
    return {**fixed, "offsets": coefficients[: task.n_offsets] + task.given, "coefficients": found}


def _stream(task: _Task, atoms: Sequence[ase.Atoms], show: bool | Report, folds: Folds | None = None) -> StreamedQR:
    """All rows of all structures, reduced, in the folds given or in those of the settings."""
    potential, params, settings, given = task.start.potential, task.start.params, task.settings, task.given
    factors = _factors(atoms, potential, settings)
    n_species = task.n_offsets
    columns = n_species + int(np.size(params["coefficients"]))
    few = np.shape(params["coefficients"])[-1] <= _FEW_FEATURES
    batch_atoms = settings.batch_atoms or (512 if few else 128)
    n_folds = settings.n_folds if settings.ridge == "folds" else 1
    problem = StreamedQR(columns, n_folds=folds.number if folds else min(n_folds, len(atoms)))
    roughness = _roughness(potential.stages, params)[None]  # pyright: ignore[reportArgumentType]
    for number, piece in enumerate(pieces := _pieces(atoms)):
        frames = [atoms[int(k)] for k in piece]
        groups = [_group(frame, int(k), settings) for k, frame in zip(piece, frames, strict=True)]
        groups = groups if folds is None else [str(folds.fold_of[k]) for k in piece]
        own = None if factors is None else factors[piece]
        filled = batches(frames, potential.config, max_atoms=batch_atoms, n_shapes=1, factors=own)
        label = "design matrix" if len(pieces) == 1 else f"design matrix, part {number + 1} of {len(pieces)}"
        with work(len(pieces) * sum(one.graph.mask.size for one in filled)):
            for batch in track(filled, label, show=show):
                with_stress = settings.stress_weight > 0 and bool(np.any(batch.labels.has_stress))
                found = jax.tree.map(np.asarray, design(potential, params, batch.graph, with_stress))
                labels, graph = jax.tree.map(np.asarray, (batch.labels, batch.graph))
                labels = labels._replace(energy=labels.energy - found.energy[:, :n_species] @ given)
                rows = weighted_rows(found, labels, graph, multipliers(labels, n_atoms(graph), settings))
                if settings.offsets != "fit":
                    rows.matrix[:, :n_species] = 0
                np.divide(rows.matrix, roughness, out=rows.matrix)
                _add(problem, rows, batch.index, groups)
    if not problem.n_rows:
        raise ValueError(NOTHING)
    return problem


def _factors(atoms: Sequence[ase.Atoms], potential: Potential, settings: LinearFit) -> np.ndarray | None:
    """Of the residuals of each structure, once the labels are checked."""
    if isinstance(atoms, PackedData):
        with makers(0) as pool:
            return survey(atoms, potential.config.species, settings, pool).factors
    check_labels(atoms, settings)
    return structure_factors(atoms, settings)


def _pieces(atoms: Sequence[ase.Atoms]) -> list[np.ndarray]:
    """Numbers of structures whose graphs are in memory together."""
    sizes = atoms.sizes if isinstance(atoms, PackedData) else np.array([len(frame) for frame in atoms])
    return np.split(np.arange(len(sizes)), np.flatnonzero(np.diff((np.cumsum(sizes) - 1) // _PIECE_ATOMS)) + 1)


def _add(problem: StreamedQR, rows: WeightedRows, index: np.ndarray, groups: list) -> None:
    """The rows of a batch, structure by structure."""
    for g, k in enumerate(index):
        mine = (rows.structure == g) & (rows.multiplier != 0)
        if k >= 0 and mine.any():
            problem.add(rows.matrix[mine], rows.target[mine], groups[k])


def _roughness(stages: Linear, params: Params) -> np.ndarray:
    """What each column is divided by, so that a ridge on its coefficient is one on coefficient times roughness."""
    c = np.ones(np.shape(params["coefficients"]))
    features = c if stages.roughness is None else c * stages.roughness()
    return np.concatenate([np.ones(np.size(params["offsets"])), features.ravel()])


def _group(frame: ase.Atoms, k: int, settings: LinearFit) -> str | None:
    """What keeps structures together in folds; None: nothing."""
    if settings.group_key is None:
        return None
    if settings.group_key not in frame.info:
        raise ValueError(
            f"structure {k} has no {settings.group_key!r}: " + unknown_name("key", settings.group_key, frame.info)
        )
    return str(frame.info[settings.group_key])


def _history(problem: StreamedQR, solution: Solution, times: dict[str, float]) -> History:
    summary = {
        "n_rows": problem.n_rows,
        "n_columns": problem.n_columns,
        "ridge": solution.ridge,
        "condition_number": solution.condition_number,
        "rank": solution.rank,
        "effective_dof": solution.effective_dof,
        "n_zero_columns": len(solution.zero_columns),
        "residual_norm": solution.residual_norm,
        **times,
    }
    rows = [{"ridge": float(r), "score": float(s)} for r, s in zip(solution.ridges, solution.scores)]
    return History(summary, rows)
