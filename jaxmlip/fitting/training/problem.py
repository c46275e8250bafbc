"""What an iterative fit works on: its settings, the starting parameters, and the data on the devices."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmlip.config import Count, Share, Whole
from jaxmlip.fitting.objective import Example, Weights, force_scale, residuals, structure_factors
from jaxmlip.fitting.survey import Scales
from jaxmlip.fitting.training.devices import replicated, shares
from jaxmlip.graph.batch import Graph, batch
from jaxmlip.graph.stack import Bucket, stack, take
from jaxmlip.potentials.base import (
    Params,
    Potential,
    Regressor,
    cast_params,
    descriptor,
    initial,
    regressor,
    safe_edges,
)
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.offsets import fit_offsets, given_offsets

_INIT_STRUCTURES = 64  # of which initial parameters (scaling, average neighbours) are made


@dataclasses.dataclass(frozen=True)
class Training(Weights):
    """Settings of every iterative fit."""

    epochs: Count = 200
    """Passes over the data; iterations of a full-batch method."""
    batch_size: Count = 8
    """Structures evaluated together; of a full-batch method it limits the memory only."""
    validation_fraction: Share = 0.1
    """Of the structures, held out to choose the best epoch, if no validation set is given; 0: the last epoch counts."""
    patience: Count | None = None
    """Stop after so many epochs without a better validation loss."""
    checkpoint_every: Count = 10
    """Epochs between checkpoints, where a folder is given."""
    seed: Whole = 0
    """Of initial parameters, validation split and order of structures."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of all numbers in training; the result is float64."""
    n_shapes: Count = 3
    """Sizes to which structures are padded: more waste less and compile more."""
    frozen: tuple[str, ...] = ()
    """Of a model that is trained further: patterns of the names of parameters that stay, as "layers/*/radial/*"."""


class Part(NamedTuple):
    """A bucket on the device, with descriptors where they are kept: only energies are trained then."""

    bucket: Bucket
    descriptors: jax.Array | None  # [n_structures, n_atoms, n_features]

    @property
    def n_atoms(self) -> int:
        """Of a structure, padding included."""
        return self.bucket.graphs.mask.shape[-2]


class Chunk(NamedTuple):
    """Structures of a part that are evaluated together."""

    rows: jax.Array  # [n_devices, n]; several chunks: [n_devices, n_chunks, n]
    part: Part


class Objective(NamedTuple):
    """What compiled functions of a fit depend on."""

    potential: Potential
    settings: Any  # `Weights` of some method


class Problem(NamedTuple):
    """What a method trains on."""

    potential: Potential
    settings: Any
    params: Params  # where to start
    train: list[Part]
    validation: list[Part]


def split_params(potential: Potential, params: Params) -> tuple[Params, Params]:
    """The parts of ``params`` that are trained, and those that `Potential.fixed` names."""
    fixed = {name: part for name, part in params.items() if name in potential.fixed}
    return {name: part for name, part in params.items() if name not in potential.fixed}, fixed


def make_problem(
    start: Potential | Model, atoms: Sequence[ase.Atoms], validation: Sequence[ase.Atoms], settings: Training
) -> Problem:
    """Everything on the devices, from structures."""
    potential, params = (start.potential, start.params) if isinstance(start, Model) else (start, None)
    if params is None:
        params = initial_params(potential, atoms, settings)
    params = cast_params(params, settings.dtype)
    only_energies = not (settings.force_weight or settings.stress_weight)
    keep = descriptor(potential) if only_energies and regressor(potential) is not None else None
    size = {"n_shapes": settings.n_shapes, "dtype": settings.dtype}
    parts = [
        [_part(b, potential, params, keep) for b in stack(frames, potential.config, factors=factors, **size)]
        if frames
        else []
        for frames, factors in ((part, structure_factors(part, settings)) for part in (atoms, validation))
    ]
    if isinstance(start, Model):
        params = {**params, "offsets": model_offsets(potential, params, parts[0], settings)}
    return Problem(potential, settings, *replicated((params, *parts)))


def model_offsets(
    potential: Potential, params: Params, parts: list[Part], settings: Training
) -> Float[jax.Array, " n_species"]:
    """Of a model to go on from: corrected, or as the settings give them."""
    if settings.offsets != "fit":
        return jnp.asarray(given_offsets(potential.config, settings.offsets, params), params["offsets"].dtype)
    if not settings.energy_weight:
        return params["offsets"]
    return params["offsets"] + _offset_correction(potential, params, parts, settings)


def _offset_correction(potential: Potential, params: Params, parts: list[Part], settings: Training) -> jax.Array:
    """What to add to a model's offsets, so that the objective is least for all other parameters as they are, in eV.

    Offsets enter energies per atom alone, and linearly: min_δ Σ_k (ΔE_k/N_k + Σ_s n_ks δ_s/N_k)². A model of another
    level of theory has energies on another scale, which a gentle fit would be long to leave.
    """
    energies = dataclasses.replace(settings, energy_weight=1.0, force_weight=0.0, stress_weight=0.0)
    rest = jax.jit(lambda params, part, rows: residuals(potential, params, drawn(part, rows), energies)[0])
    fractions, errors = [], []
    for part in parts:
        graphs, n = part.bucket.graphs, part.bucket.n_structures
        mask, species = np.asarray(graphs.atom_mask), np.asarray(graphs.species)
        kinds = np.arange(len(potential.config.species))
        counts = np.sum((species[:, :, None] == kinds) & mask[:, :, None], axis=1)
        given = np.asarray(part.bucket.labels.has_energy)
        factor = given * np.asarray(part.bucket.labels.energy_factor, float)
        fractions.append(factor * counts / mask.sum(axis=1)[:, None])
        rows = np.resize(np.arange(n), (-(-n // settings.batch_size), settings.batch_size))
        found = [rest(params, part, jnp.asarray(row)) for row in rows]
        errors.append(np.concatenate(found)[:n])
    correction = np.linalg.lstsq(np.concatenate(fractions), -np.concatenate(errors).astype(float), rcond=None)[0]
    return jnp.asarray(correction, params["offsets"].dtype)


def initial_params(
    potential: Potential, atoms: Sequence[ase.Atoms], settings: Training, scales: Scales | None = None
) -> Params:
    """The family's initial parameters for a sample of the data, with offsets that fit its energies.

    ``scales`` are those of the data where they are known.
    """
    chosen = np.random.Generator(np.random.PCG64(settings.seed)).permutation(len(atoms))[:_INIT_STRUCTURES]
    graph = batch([atoms[int(k)] for k in sorted(chosen)], potential.config)
    params = initial(potential, settings.seed, graph)
    stages = potential.stages
    if isinstance(stages, Regressor) and stages.scale:  # a network whose outputs and their derivatives start at about 1
        params |= {stages.scale: np.full_like(params[stages.scale], scales.forces if scales else force_scale(atoms))}
    if settings.offsets == "fit" and settings.energy_weight:
        known = None if scales is None else scales.offsets
        return {**params, "offsets": fit_offsets(atoms, potential.config.species) if known is None else known}
    return {**params, "offsets": given_offsets(potential.config, settings.offsets)}


def _part(bucket: Bucket, potential: Potential, params: Params, descriptor: Callable | None) -> Part:
    """With kept descriptors the graph is stripped of its neighbours."""
    if descriptor is None:
        return Part(bucket, None)

    @jax.jit
    def one(graphs: Graph, k: jax.Array) -> jax.Array:
        graph, _ = take(graphs, bucket.labels, k[None])
        return descriptor(params, graph, safe_edges(graph, potential.config))

    kept = jnp.stack([one(bucket.graphs, jnp.asarray(k)) for k in range(bucket.n_structures)])
    names = ("neighbors", "neighbor_species", "shifts", "reverse", "mask")
    stripped = {name: getattr(bucket.graphs, name)[:, :, :0] for name in names}
    return Part(bucket._replace(graphs=bucket.graphs._replace(**stripped)), kept)


@jax.jit
def drawn(part: Part, rows: Int[jax.Array, "*rows"]) -> Example:
    """Some structures of a part; negative rows are empty."""
    graph, labels = take(part.bucket.graphs, part.bucket.labels, rows)
    descriptors = None
    if part.descriptors is not None:
        descriptors = part.descriptors[rows].reshape(-1, part.descriptors.shape[-1])
    return Example(graph, labels, descriptors)


def chunks(n: int, size: int) -> Int[np.ndarray, "n_rows n_devices _"]:
    """The numbers 0 … n − 1 in equal rows of at most ``size``, dealt out ``[n_rows, n_devices, …]``; −1: none.

    >>> chunks(9, 8).shape[0], chunks(9, 8).size < 2 * 8
    (2, True)
    """
    size = -(-n // -(-n // size))
    rows = np.full(-(-n // size) * size, -1)
    rows[:n] = np.arange(n)
    return np.moveaxis(shares(rows.reshape(-1, size)), 0, 1)
