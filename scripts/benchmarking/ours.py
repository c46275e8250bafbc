"""The jaxmlip side: each job runs in a process of its own and returns plain numbers."""

import math
import resource
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import jax
import numpy as np

import jaxmlip
from benchmarking import disorder, dynamics, limit
from benchmarking.cases import (
    ENERGY_WEIGHT,
    FORCE_WEIGHT,
    GRAPH_CUTOFF,
    MC_SPECIES,
    MD_STEPS,
    PEER_SUFFIX,
    PEERS,
    Job,
    cells_of_one_size,
    elements,
    many_structures,
    molybdenum,
    structure,
    training_set,
)
from benchmarking.clock import median, timed
from jaxmlip.descriptors.soap import SOAP, soap
from jaxmlip.descriptors.soap_gradient import soap_derivatives
from jaxmlip.fitting import FIT_METHODS, GaussianProcessFit, LinearFit, QuasiNewtonFit
from jaxmlip.programs import work


def run(job: Job) -> dict[str, Any]:
    """Times of ``job``: the first call (which compiles, or reads the compilation cache), and the median of others."""
    jax.config.update("jax_compilation_cache_dir", str(Path(job.folder) / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    ahead = 0.0 if job.kind == "fit" else math.inf  # all but a whole fit as in a long run
    with jax.enable_x64(job.precision == "float64"), work(ahead):
        run_fns = {"predict": _predict, "elements": _predict, "fit": _fit, "md": _md, "trials": _trials}
        run_fns |= {"train": _train, "graphs": _graphs}
        result = run_fns.get(job.kind, _soap)(job)
    return result | {"peak_gb": peak_gb(), "version": jaxmlip.__version__, "device": str(jax.devices()[0])}


def peak_gb() -> float:
    """The largest memory this process had, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def random_model(job: Job, atoms: Any) -> jaxmlip.Model:
    """The potential of ``job`` with random parameters, saved for the peer."""
    settings = dict(job.settings)
    n_sparse = settings.pop("n_sparse", None)
    settings.pop("n_elements", None)
    settings.pop("n_chains", None)
    potential = jaxmlip.build(job.family, species=elements([atoms]), **settings)
    with jax.enable_x64(True):  # the same random numbers in each precision
        params = potential.init(jax.random.key(0), None)
        params = _random(params if n_sparse is None else _with_points(atoms, potential, params, n_sparse))
    _save_for_peer(job, jaxmlip.Model(potential, params))
    return jaxmlip.Model(potential, params)


def _save_for_peer(job: Job, model: Any) -> None:
    """In the peer's own format, if the case has one."""
    peer = PEERS.get((job.kind, job.family))
    if peer and job.precision == "float64":
        jaxmlip.save(model, Path(job.folder) / f"{job.name}{PEER_SUFFIX[peer]}")


def _predict(job: Job) -> dict[str, Any]:
    """Energy, forces and stress of one large cell; the neighbour list is not counted."""
    atoms = structure(job)
    model = jax.tree.map(lambda x: jax.numpy.asarray(x, job.precision), random_model(job, atoms))
    graph = jaxmlip.batch(atoms, model.potential.config, dtype=job.precision)
    found, first = _timed(lambda: jaxmlip.predict(model, graph))
    steady = [_timed(lambda: jaxmlip.predict(model, graph))[1] for _ in range(job.repeats)]
    _save(job, found.energy[0], found.forces)
    needed = limit.cost(jaxmlip.predict, model, graph)
    details = {"neighbors": float(graph.mask.sum()) / len(atoms), "floor": limit.floor(needed, job.precision)}
    details |= {"operations": needed.operations / len(atoms), "in_matrices": needed.in_matrices / len(atoms)}
    return {"n_atoms": len(atoms), "first": first, "steady": median(steady), **details}


def _md(job: Job) -> dict[str, Any]:
    """Steps of Nosé-Hoover dynamics, and of the thermostat and the momenta alone: many, because they are short.

    The share of the latter is measured, not the difference of two long times.
    """
    atoms, n_steps = structure(job), MD_STEPS[job.size]
    model = random_model(job, atoms)
    run = dynamics.Run(model, atoms, job.precision)
    found, first = _timed(lambda: run.start(n_steps))
    steps = [_timed(lambda: run.steps("nvt", n_steps))[1] for _ in range(job.repeats)]
    run.steps("integration", 1)
    alone = [_timed(lambda: run.steps("integration", 50 * n_steps))[1] for _ in range(job.repeats)]
    _save(job, found.energy, found.value)
    steady = {name: value / n_steps for name, value in median(steps).items()}
    outside = median(alone)["cpu"] / (50 * n_steps) / steady["cpu"]
    return {"n_atoms": len(atoms), "first": first, "steady": steady, "outside": outside}


def _trials(job: Job) -> dict[str, Any]:
    """Trial swaps of cations in a rocksalt: changed energies are those of the sites within the cutoff."""
    model = random_model(job, ase.Atoms(MC_SPECIES))
    return disorder.Run(model, job, job.settings["n_chains"]).measure(job, lambda action: _timed(action)[1])


def _save(job: Job, energy: Any, forces: Any) -> None:
    """For the comparison with the peer."""
    numbers = {"energy": float(energy), "forces": np.asarray(forces, float)}
    np.savez(Path(job.folder) / f"{job.name}_{job.code}_{job.precision}.npz", **numbers)  # pyright: ignore[reportArgumentType]


def _with_points(atoms: Any, potential: Any, params: Any, n_sparse: int) -> Any:
    """The params of a GAP of one element with the first atoms as sparse points, and coefficients that matter."""
    found = np.asarray(soap(atoms, potential.config.soap), float)[None, :n_sparse]
    alpha = np.random.default_rng(0).standard_normal(found.shape[:2])
    return {**params, "alpha": {"soap": alpha}, "points": {"soap": found}}


def _soap(job: Job) -> dict[str, Any]:
    """SOAP vectors, or also their derivatives, of one cell; neighbour list included, as in quippy."""
    atoms, gradients = molybdenum(job.size), job.kind == "soap gradients"
    settings = SOAP(species=("Mo",), **job.settings)
    evaluate = soap_derivatives if gradients else soap
    found, first = _timed(lambda: evaluate(atoms, settings))
    steady = [_timed(lambda: evaluate(atoms, settings))[1] for _ in range(job.repeats)]
    numbers = np.asarray(found[1], float).sum(axis=1) if gradients else np.asarray(found, float)
    np.savez(Path(job.folder) / f"{job.name}_{job.code}_{job.precision}.npz", energy=0.0, forces=numbers)
    return {"n_atoms": len(atoms), "first": first, "steady": median(steady)}


def _fit(job: Job) -> dict[str, Any]:
    """A whole direct fit: plain least squares, as ``compute snap`` and lstsq do it, or a sparse Gaussian process."""
    given: dict[str, Any] = dict(job.settings)
    element = "Si" if "n_sparse" in given else "Mo"
    n_sparse = given.pop("n_sparse", None)
    frames = training_set(job.size, element)
    potential = jaxmlip.build(job.family, species=(element,), **given)
    settings: Any = LinearFit(energy_weight=ENERGY_WEIGHT, force_weight=FORCE_WEIGHT, ridge=0.0)
    if n_sparse is not None:
        settings = GaussianProcessFit(sigma_energy=0.01, sigma_force=0.05, n_sparse=n_sparse)
    (_, history), times = _timed(lambda: jaxmlip.fit(potential, frames, settings=settings))
    wanted = ("n_rows", "n_columns", "n_sparse", "rank", "condition_number", "residual_norm", "design_seconds")
    summary = {name: float(history.summary[name]) for name in wanted if name in history.summary}
    return {"n_atoms": sum(map(len, frames)), "first": times, "steady": times, **summary}


def _train(job: Job) -> dict[str, Any]:
    """Epochs of an iterative fit; the first one compiles. Energies only for a full-batch method."""
    frames = cells_of_one_size(job.size) if job.family == "nequip" else many_structures(job.size)
    settings = dict(job.settings)
    method = FIT_METHODS[settings.pop("method")].settings
    potential = jaxmlip.build(job.family, species=elements(frames), **settings)
    _save_for_peer(job, jaxmlip.Model(potential, potential.init(jax.random.key(0), None)))
    force_weight = 0.0 if method is QuasiNewtonFit else 1.0
    common: dict[str, Any] = {"force_weight": force_weight, "epochs": 1 + job.repeats, "dtype": job.precision}
    common |= {"batch_size": job.size} if job.family == "nequip" else {}
    chosen = method(validation_fraction=0.0, **common)
    (_, history), times = _timed(lambda: jaxmlip.fit(potential, frames, settings=chosen))
    seconds = [row["seconds"] for row in history.rows[1:]]
    steady = {
        "cpu": statistics.median(row["cpu_seconds"] for row in history.rows[1:]),
        "wall": statistics.median(seconds),
    }
    return {"n_atoms": sum(map(len, frames)), "first": times, "steady": steady}


def _graphs(job: Job) -> dict[str, Any]:
    """Batches of padded graphs from many structures."""
    frames = many_structures(job.size)
    config = jaxmlip.build("snap", species=elements(frames), cutoff=GRAPH_CUTOFF).config
    built, times = _timed(lambda: jaxmlip.batches(frames, config, dtype=job.precision))
    n_shapes = len({one.graph.mask.shape for one in built})
    sizes = {"n_structures": len(frames), "n_shapes": n_shapes, "n_pairs": sum(int(b.graph.mask.sum()) for b in built)}
    return {"n_atoms": sum(map(len, frames)), "first": times, "steady": times, **sizes}


def _random(params: Any) -> Any:
    """Small random numbers in place of parameters that start at zero: a model of zeros tests nothing."""
    rng = np.random.default_rng(0)

    def fill(x: Any) -> np.ndarray:
        x = np.asarray(x, float)
        return x if x.any() else 1e-3 * rng.standard_normal(x.shape)

    return jax.tree.map(fill, params)


def _timed(action: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What ``action`` returns once it is computed, and what it cost; ``compile`` is the part of it spent in XLA."""
    done, start = [], sum(_COMPILED)
    times = timed(lambda: done.append(jax.block_until_ready(action())))
    return done[0], times | {"compile": sum(_COMPILED) - start}


def _listen(event: str, duration_secs: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _COMPILED.append(duration_secs)


_COMPILED: list[float] = []
jax.monitoring.register_event_duration_secs_listener(_listen)
