"""Fitting a GAP: the sparse Gaussian process as least squares, solved by a streamed QR factorisation.

With targets y (energies minus offsets, forces, dE/dstrain), their noise Λ = diag σ², the covariances K_nm of the data
with the sparse points and K_mm of these,

    α = (K_mm + K_mn Λ⁻¹ K_nm)⁻¹ K_mn Λ⁻¹ y
      = argmin ‖ [Λ^(−1/2) K_nm ; U] α − [Λ^(−1/2) y ; 0] ‖²,                   UᵀU = K_mm + jitter.

The normal equations would square the condition number, so the stacked rows stream into a triangle R
(`jaxmlip.fitting.least_squares.streamed_qr`):
memory is that of R and one batch. R also is what predictive variances need (`predictive_variance.predict_variance`).

References:
    Foster et al., J. Mach. Learn. Res. 10, 857 (2009): the stable form by QR.
    Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015), equations 21-25.
    Deringer et al., Chem. Rev. 121, 10073 (2021), equations 13-21.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import block_diag, cholesky, solve_triangular

from jaxmlip.config import ConfigError, Count, NotNegative, Positive, Range, Whole
from jaxmlip.data.labels import labels as read_labels
from jaxmlip.fitting.frame_weights import StructureWeights, residual_factors
from jaxmlip.fitting.gaussian_process.sparsification import choose
from jaxmlip.fitting.history import History
from jaxmlip.fitting.least_squares.column_reduction import condition_number
from jaxmlip.fitting.least_squares.streamed_qr import StreamedQR
from jaxmlip.fitting.objective import Weights, check_labels, n_atoms
from jaxmlip.fitting.rows import Multipliers, Rows, WeightedRows, weighted_rows
from jaxmlip.graph.batch import Batch, Graph, batches
from jaxmlip.graph.derivatives import per_graph
from jaxmlip.graph.labels import GraphLabels
from jaxmlip.potentials.base import Config, Kernel, Params, Potential
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.offsets import Offsets, fit_offsets, given_offsets
from jaxmlip.programs import work
from jaxmlip.progress import Report, track

CHUNK = 20000  # atoms whose neighbour lists are held at a time


@dataclasses.dataclass(frozen=True)
class GaussianProcessFit(StructureWeights):
    """Noise of the data and choice of sparse points; the names of gap_fit where it has them."""

    sigma_energy: NotNegative = 0.005
    """eV an atom; of a structure of N atoms √N times as much, as gap_fit has it."""
    sigma_force: NotNegative = 0.1
    """eV/Å. 0: forces are not fitted."""
    sigma_virial: NotNegative = 0.0
    """eV an atom, also scaled by √N; of volume times stress. 0: stresses are not fitted."""
    n_sparse: Count = 300
    """Sparse points of each species."""
    sparse_method: Literal["cur", "farthest", "cholesky", "kmeans", "random"] = "cur"
    """How they are chosen: by leverage (CUR); the farthest point next; the largest pivot of Cholesky; nearest to the
    centres of k-means; at random."""
    n_sparse_2b: Count = 15
    """Of each pair of species in the pair term, equally spaced."""
    jitter: Positive = 1e-8
    """Added to the diagonal of K_mm; ten times as much as often as the Cholesky factorisation needs it (reported)."""
    offsets: Offsets = "fit"
    """Energies of free atoms: least squares on the compositions; zero; keep the given model's; isolated: those of
    the isolated atoms in the data (`isolated_name`); or element → eV."""
    seed: Whole = 0
    """Of the choice of sparse points."""
    batch_atoms: Count = 128
    """Atoms whose rows are computed together; limits the memory."""
    tunable: ClassVar[Mapping[str, Range]] = {
        "sigma_energy": Range(1e-3, 0.05, log=True),
        "sigma_force": Range(0.02, 0.3, log=True),
    }

    def __post_init__(self) -> None:
        """Refuses what cannot be fitted."""
        super().__post_init__()
        if not (self.sigma_energy or self.sigma_force or self.sigma_virial):
            raise ConfigError("sigma_energy, sigma_force and sigma_virial are all zero: nothing would be fitted")

    @property
    def noise(self) -> "Noise":
        """Of the labels."""
        return Noise(self.sigma_energy, self.sigma_force, self.sigma_virial)

    @property
    def weights(self) -> Weights:
        """Which labels carry weight, for the checks that all fits share."""
        energy, force, virial = (float(s > 0) for s in (self.sigma_energy, self.sigma_force, self.sigma_virial))
        return Weights(energy, force, virial)


class Noise(NamedTuple):
    """Standard deviations of labels; zero: they are not fitted."""

    energy: Any
    """eV an atom; of a structure of N atoms √N times as much."""
    force: Any
    """eV/Å."""
    virial: Any = 0.0
    """eV an atom, also scaled by √N; of volume times stress."""

    def of(self, frame: ase.Atoms) -> tuple[float, float, float]:
        """Of the energy (eV), forces (eV/Å) and volume times stress (eV) of a structure."""
        root = float(len(frame)) ** 0.5
        return self.energy * root, self.force, self.virial * root

    def multipliers(self, labels: GraphLabels, sizes: Float[Any, " n_graphs"]) -> Multipliers:
        """1/σ of the labels of structures of ``sizes`` atoms, times the factors of the structures."""
        energy, force, virial = (1 / x if isinstance(x, jax.Array) or x else 0.0 for x in self)
        root = sizes.clip(1) ** 0.5
        return Multipliers(
            energy * labels.energy_factor / root, force * labels.forces_factor, virial * labels.stress_factor / root
        )


class Posterior(NamedTuple):
    """What the uncertainty of a fitted model needs: RᵀR = K_mm + K_mn Λ⁻¹ K_nm and UᵀU = K_mm + jitter."""

    used: np.ndarray  # [n_columns] which columns are sparse points, not padding
    triangle: np.ndarray  # R [n_used, n_used]
    prior: np.ndarray  # U [n_used, n_used]


def fit_gaussian_process(
    start: Potential | Model,
    atoms: Sequence[ase.Atoms],
    *,
    settings: GaussianProcessFit | None = None,
    show_progress: bool | Report = False,
) -> tuple[Model, History]:
    """Sparse points, α and offsets from the labels of ``atoms``, in float64. A model as ``start`` keeps its points.

    Raises:
        ValueError: no potential of kernels, no labels that carry weight, a label that is not finite, or an unknown
            element.
    """
    settings = GaussianProcessFit() if settings is None else settings
    potential = start.potential if isinstance(start, Model) else start
    stages = potential.stages
    if not isinstance(stages, Kernel):
        raise ValueError(f"{type(potential.config).__name__} has no kernels: a Gaussian-process fit needs a GAP")
    check_labels(atoms, settings.weights)
    started, cpu = time.perf_counter(), time.process_time()
    with jax.enable_x64(True):
        factors = residual_factors(atoms, settings, settings.noise.of)
        stream = batch_stream(list(atoms), potential.config, settings.batch_atoms, factors)
        with work(_edges(atoms, stream)):
            params = _start_params(start, atoms, settings, stream)
            chosen = time.perf_counter()
            problem, prior, used, jitter = _system(stages, params, stream, settings, show_progress)
    (factor,) = problem.factors()
    alpha = np.zeros(len(used))
    alpha[used] = solve_triangular(factor.triangle, factor.projection)
    params = params | {"alpha": _split(alpha, params["alpha"])}
    summary = {
        "n_rows": problem.n_rows - len(prior),
        "n_sparse": int(used.sum()),
        "jitter": jitter,
        "condition_number": condition_number(factor.triangle),
        "prior_condition_number": condition_number(np.asfortranarray(prior)) ** 2,
        "residual_norm": factor.remainder**0.5,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "sparsification_seconds": chosen - started,
    }
    return Model(potential, params, Posterior(used, factor.triangle.copy(), prior)), History(summary, [])


def _edges(atoms: Sequence[ase.Atoms], stream: Callable[[], Iterable[Batch]]) -> int | float:
    """Of all structures; no bound where their neighbour lists are not kept."""
    few = sum(map(len, atoms)) < CHUNK
    return sum(one.graph.mask.size for one in stream()) if few else math.inf


def batch_stream(
    atoms: list[ase.Atoms],
    config: Config,
    batch_atoms: int,
    factors: Float[np.ndarray, "n_structures 3"] | None = None,
) -> Callable[[], Iterable[Batch]]:
    """A function that gives the batches of all structures, as often as it is called.

    A data set of up to `CHUNK` atoms keeps its neighbour lists; of a larger one they are made anew chunk by chunk.
    """
    ends = np.cumsum([len(frame) for frame in atoms])
    parts = np.split(np.arange(len(atoms)), np.flatnonzero(np.diff(ends // CHUNK)) + 1)

    def part_batches(part: np.ndarray) -> Iterator[Batch]:
        own = None if factors is None else factors[part]
        for one in batches([atoms[k] for k in part], config, max_atoms=batch_atoms, n_shapes=2, factors=own):
            yield one._replace(index=np.where(one.index < 0, -1, part[one.index]))

    if len(parts) == 1:
        kept = list(part_batches(parts[0]))
        return lambda: kept
    return lambda: (one for part in parts for one in part_batches(part))


def covariance_factor(
    stages: Kernel, points: dict[str, Any], jitter: float
) -> tuple[Float[np.ndarray, "n_used n_used"], Bool[np.ndarray, " n_columns"], float]:
    """U with UᵀU = K_mm + jitter, which columns are points rather than padding, and the jitter that it took.

    Raises:
        ValueError: no jitter below the prior variance makes K_mm positive definite.
    """
    used, kernels = zip(*stages.covariances(points), strict=True)
    largest = max(float(np.max(K, initial=0)) for K in kernels)
    while jitter < largest:
        try:
            factors = [cholesky(K + jitter * np.eye(len(K))) for K in kernels if len(K)]
            return np.asarray(block_diag(*factors)), np.concatenate(used), jitter
        except np.linalg.LinAlgError:
            jitter *= 10
    raise ValueError("the covariance matrix of the sparse points is not positive definite: are all of them equal?")


def _start_params(start: Potential | Model, atoms, settings: GaussianProcessFit, stream: Callable) -> Params:
    """Offsets and sparse points; α is yet to come."""
    potential, kept = (start.potential, start.params) if isinstance(start, Model) else (start, None)
    if kept is None:
        stages: Any = potential.stages
        found = choose(potential, stream, settings.n_sparse, method=settings.sparse_method, seed=settings.seed)
        points = {stages.name: found.points, **stages.further_points(stream(), settings.n_sparse_2b)}
        params: Params = {"alpha": {name: np.zeros(x.shape[:2]) for name, x in points.items()}, "points": points}
    else:
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), kept)
    if settings.offsets == "fit" and any(read_labels(frame).energy is not None for frame in atoms):
        return params | {"offsets": fit_offsets(atoms, potential.config.species)}
    return params | {"offsets": given_offsets(potential.config, settings.offsets, kept)}


def _system(stages: Kernel, params: Params, stream: Callable, settings: GaussianProcessFit, show: bool | Report):
    """All rows reduced; the factor of K_mm, the columns in use and the jitter."""
    points = jax.tree.map(jnp.asarray, params["points"])
    prior, used, jitter = covariance_factor(stages, params["points"], settings.jitter)
    problem = StreamedQR(len(prior))
    problem.add(prior, np.zeros(len(prior)))
    for batch in track(stream(), "kernel matrix", show=show):
        with_stress = settings.sigma_virial > 0 and bool(np.any(np.asarray(batch.labels.has_stress)))
        found = stages.rows(points, batch.graph, with_stress)
        found = jax.tree.map(lambda x: np.asarray(x)[..., used] if x.shape[-1] else np.asarray(x), found)
        labels, graph = jax.tree.map(np.asarray, (batch.labels, batch.graph))
        rows = noisy_rows(Rows(*found), labels, graph, params["offsets"], settings.noise)
        known = rows.multiplier != 0
        problem.add(rows.matrix[known], rows.target[known])
    return problem, prior, used, jitter


def noisy_rows(
    rows: Rows, labels: GraphLabels, graph: Graph, offsets: Float[Any, " n_species"], noise: Noise
) -> WeightedRows:
    """Rows and targets over their noise: energies less those of free atoms, forces, and virials by ``rows.stress``."""
    xp: Any = np if isinstance(rows.energy, np.ndarray) else jnp
    free = per_graph(graph, xp.where(graph.atom_mask, xp.asarray(offsets)[graph.species], 0))
    volumes = abs(xp.linalg.det(graph.cell))[:, None, None]
    labels = labels._replace(energy=labels.energy - free, stress=labels.stress * volumes)
    return weighted_rows(rows, labels, graph, noise.multipliers(labels, n_atoms(graph)))


def _split(alpha: np.ndarray, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    sizes = np.cumsum([value.size for value in like.values()])[:-1]
    return {name: part.reshape(like[name].shape) for name, part in zip(like, np.split(alpha, sizes))}
