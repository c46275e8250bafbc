"""From labelled structures to a `Model`: one `fit` for every family, with the method that suits it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ase
import jax
import numpy as np

from jaxmlip.config import ConfigError, from_mapping, unknown_name
from jaxmlip.data.packed import PackedData
from jaxmlip.data.structures import frames_of
from jaxmlip.fitting.committee import Committee, Folds, predict_committee, random_folds
from jaxmlip.fitting.frame_weights import StructureWeights, converged, with_isolated
from jaxmlip.fitting.gaussian_process.predictive_variance import Variance, predict_variance
from jaxmlip.fitting.gaussian_process.regression import GaussianProcessFit, Posterior, fit_gaussian_process
from jaxmlip.fitting.history import History, read_log
from jaxmlip.fitting.least_squares.linear import LinearFit, fit_linear, fit_linear_members
from jaxmlip.fitting.loss import LossTerms, initial, loss
from jaxmlip.fitting.objective import Weights
from jaxmlip.fitting.training.gauss_newton import GaussNewtonFit, gauss_newton_method
from jaxmlip.fitting.training.gradient import GradientFit, gradient_method
from jaxmlip.fitting.training.loop import Extras, train
from jaxmlip.fitting.training.members import train_members
from jaxmlip.fitting.training.quasi_newton import QuasiNewtonFit, quasi_newton_method
from jaxmlip.fitting.training.streamed import train_streamed
from jaxmlip.potentials.base import Kernel, Linear, Potential
from jaxmlip.potentials.model import Model, as_model
from jaxmlip.potentials.registry import FAMILIES, config_from_mapping, family_of, named, potential_of
from jaxmlip.progress import Report, Terminated

Run = Callable[[Any, Any, Any, Extras], tuple[Model, History]]
"""(start, atoms, settings, extras) → the fitted model and its history."""

Members = Callable[[Any, Sequence[ase.Atoms], Any, Folds], tuple[Model, History]]
"""(start, atoms, settings, folds) → a model with several members, and its history."""


class FitMethod(NamedTuple):
    """A method of fitting: its settings, and what runs it."""

    settings: type[Any]
    run: Run
    streamed: Run | None = None
    """The same of packed data, which stay on disk; None: they are read into memory first."""
    members: Members | None = None
    """Runs several fits at once, each without its fold; None: they are run one after another."""


def _in_one_piece(function: Callable[..., tuple[Model, History]]) -> Run:
    """A fit without epochs: there is nothing to validate or to keep on the way."""

    def run(start: Any, atoms: Sequence[ase.Atoms], settings: Any, extras: Extras) -> tuple[Model, History]:
        return function(start, atoms, settings=settings, show_progress=extras.show_progress)

    return run


FIT_METHODS = {
    "linear": FitMethod(LinearFit, _in_one_piece(fit_linear), _in_one_piece(fit_linear), fit_linear_members),
    "gaussian-process": FitMethod(GaussianProcessFit, _in_one_piece(fit_gaussian_process)),
    "gauss-newton": FitMethod(GaussNewtonFit, partial(train, optimizer=gauss_newton_method)),
    "quasi-newton": FitMethod(QuasiNewtonFit, partial(train, optimizer=quasi_newton_method)),
    "gradient": FitMethod(GradientFit, partial(train, optimizer=gradient_method), train_streamed, train_members),
}
"""By the names that the command line and study files use."""


def fit(
    start: Potential | Model | str | Path,
    atoms: Any,
    *,
    settings: Any = None,
    validation: Any = None,
    folder: str | Path | None = None,
    show_progress: bool | Report = False,
) -> tuple[Model, History]:
    """Parameters from the labels of ``atoms``: energies in eV, forces in eV/Å, stresses in eV/Å³.

    >>> import jaxmlip
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> model, history = jaxmlip.fit(potential, jaxmlip.datasets.load("mo", split="test")[:3])
    >>> history.summary["n_columns"]
    6

    Args:
        start: a potential from `jaxmlip.build` or a family's factory, or a model (or its file) to go on from, as in
            fine-tuning: a linear fit keeps what is not linear in its parameters, the others start from them, with
            offsets fitted anew unless the settings say otherwise.
        atoms: structures with labels, as `jaxmlip.read` gives them, of ASE or pymatgen. Packed data
            (`jaxmlip.data.PackedData`) stay on disk in a linear fit and in training by gradients; the other methods
            read them into memory.
        settings: `LinearFit`, `GaussianProcessFit`, `GaussNewtonFit`, `QuasiNewtonFit` or `GradientFit`; the default
            is the family's. Weights mean the same in each; a Gaussian process has the noise of the data instead.
            Weights of single structures and groups, and what is left out: `jaxmlip.fitting.frame_weights`.
        validation: structures that choose the best epoch of an iterative fit; by default a part of ``atoms``.
        folder: an iterative fit keeps its log (``log.jsonl``) and checkpoints here, and goes on from them.
        show_progress: a progress bar on standard error; or a function that gets a row at each epoch, or at each batch
            of a fit in one piece.

    Returns:
        The fitted model, and a history: its ``summary`` tells how the fit ended and the time, its ``rows`` each epoch.

    Raises:
        ValueError: data without labels that carry weight, labels that are not finite, an element that the potential
            does not know, a potential that the method cannot fit, or a checkpoint of another run.
        FloatingPointError: a training run diverged.
        Terminated: SIGTERM arrived; with a folder an iterative fit leaves a checkpoint after the epoch (on packed data
            after the step) and ends.
    """
    start, settings, method = _chosen(start, settings)
    run = method.streamed if isinstance(atoms, PackedData) and method.streamed else method.run
    frames, held_out = (_frames(given, method) for given in (atoms, validation))
    if isinstance(settings, StructureWeights):
        frames, settings = with_isolated(converged(frames, settings), settings)
    return run(start, frames, settings, Extras(held_out, None if folder is None else Path(folder), show_progress))


def fit_committee(
    start: Potential | Model | str | Path,
    atoms: Any,
    *,
    n_members: int = 4,
    settings: Any = None,
    fold_seed: int | None = 0,
    folder: str | Path | None = None,
) -> tuple[Model, History]:
    """Several models of one potential, each fitted without one part of the data: how they differ tells what is open.

    Training by gradients runs all members in one compiled program, from initial parameters and in orders of their own;
    there the last epoch counts, and nothing is held out. A linear fit computes the rows once for all members, which
    have one ridge. By other methods they are fitted one after another.

    >>> import jaxmlip
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> models, _ = fit_committee(potential, jaxmlip.datasets.load("mo", split="test")[:4], n_members=2)
    >>> models.params["coefficients"].shape
    (2, 1, 5)

    Args:
        start: as of `fit`.
        atoms: structures with labels; packed data are read into memory.
        n_members: at least 2.
        settings: as of `fit`.
        fold_seed: of the folds that are left out; None lets all members see all data: then they differ by what is
            drawn at random in training.
        folder: members that are fitted one after another keep their checkpoints here, and go on from them (`fit`).

    Returns:
        One model whose parameters have a first axis [n_members], for `predict_committee`, and a history.

    Raises:
        ValueError: fewer than two members or fewer structures than members, nothing in which the members would differ,
            or data that cannot be fitted (`fit`).
        FloatingPointError: a member diverged.
    """
    start, settings, method = _chosen(start, settings)
    if n_members < 2:
        raise ValueError(f"a committee has at least two members, got n_members={n_members}")
    frames = frames_of(atoms)
    if isinstance(settings, StructureWeights):
        frames, settings = with_isolated(converged(frames, settings), settings)
    if len(frames) < n_members:
        raise ValueError(f"{n_members} members need at least as many structures, got {len(frames)}")
    everything = Folds(n_members, np.full(len(frames), -1))
    folds = everything if fold_seed is None else random_folds(len(frames), n_members, fold_seed)
    drawn = isinstance(settings, GradientFit) or (isinstance(start, Potential) and hasattr(settings, "seed"))
    if fold_seed is None and not drawn:
        what = "from a model" if isinstance(start, Model) else "from scratch"
        raise ValueError(f"{type(settings).__name__} {what} draws nothing at random: all members would be the same")
    if method.members is not None and not getattr(settings, "frozen", ()):
        return method.members(start, frames, settings, folds)
    return _one_by_one(start, frames, settings, folds, folder)


def _one_by_one(
    start: Any, frames: Sequence[ase.Atoms], settings: Any, folds: Folds, folder: str | Path | None
) -> tuple[Model, History]:
    members, rows = [], []
    for k in range(folds.number):
        place = None if folder is None else Path(folder) / f"member-{k}"
        own = dataclasses.replace(settings, seed=settings.seed + k) if hasattr(settings, "seed") else settings
        seen = [frame for frame, fold in zip(frames, folds.fold_of, strict=True) if fold != k]
        member, history = fit(start, seen, settings=own, folder=place)
        members.append(member)
        rows.append({"member": k, **history.summary})
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *[member.params for member in members])
    return Model(members[0].potential, params), History({"seconds": sum(row["seconds"] for row in rows)}, rows)


def _chosen(start: Any, settings: Any) -> tuple[Potential | Model, Any, FitMethod]:
    """What is fitted, and how.

    Raises:
        ValueError: a model for predictions alone.
        TypeError: settings of no method.
    """
    start = _start(start)
    potential = start.potential if isinstance(start, Model) else start
    if "offsets" in potential.fixed:
        raise ValueError(
            "this model is for predictions alone: fit the one that it was made of, and make it again from what comes "
            "of it (jaxmlip.tabulated(model))"
        )
    settings = default_settings(potential) if settings is None else settings
    method = {method.settings: method for method in FIT_METHODS.values()}.get(type(settings))
    if method is None:
        kinds = ", ".join(method.settings.__name__ for method in FIT_METHODS.values())
        raise TypeError(f"settings must be one of {kinds}; got {settings!r}")
    return start, settings, method


def _frames(structures: Any, method: FitMethod) -> Any:
    """Structures as a method takes them: packed ones stay on disk where it can."""
    if structures is None or (isinstance(structures, PackedData) and method.streamed):
        return structures
    return frames_of(structures)


def fit_settings(family: str, values: Mapping[str, Any]) -> Any:
    """The settings of a family's fit from plain values, as in a TOML file: ``method`` names one of `FIT_METHODS`.

    >>> fit_settings("snap", {"ridge": 0.1}).ridge
    0.1
    >>> fit_settings("snap", {"method": "gradient", "epochs": 3}).epochs
    3

    Raises:
        ConfigError: no such method or setting, or a value of the wrong kind.
    """
    values = dict(values)
    return from_mapping(named_method(values.pop("method", method_of(family))).settings, values, where="fit")


def named_method(name: Any) -> FitMethod:
    """One of `FIT_METHODS`.

    >>> named_method("linear").settings.__name__
    'LinearFit'

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in FIT_METHODS:
        raise ConfigError(unknown_name("method of fitting", name, FIT_METHODS))
    return FIT_METHODS[name]


def default_settings(potential: Potential) -> Any:
    """How `fit` fits a potential unless told otherwise: as its family says, else as its stages allow.

    >>> import jaxmlip
    >>> type(default_settings(jaxmlip.build("snap", species=("Mo",), cutoff=4.0))).__name__
    'LinearFit'
    """
    try:
        method = family_of(potential.config).method
    except ConfigError:  # of no registered family
        method = None
    return FIT_METHODS[method or _by_stages(potential)].settings()


def method_of(family: str) -> str:
    """The method in `FIT_METHODS` by which a family is fitted unless told otherwise.

    >>> method_of("mtp")
    'gauss-newton'

    Raises:
        ConfigError: no such family, or one that has nothing to fit.
    """
    kind = named(family)
    if kind.method is None:
        raise ConfigError(f"{family} has nothing to fit by itself")
    small = {"family": family, "species": ("Li",), "cutoff": 4.0, **kind.example}
    return kind.method or _by_stages(potential_of(config_from_mapping(small)))


def _by_stages(potential: Potential) -> str:
    kinds = {Linear: "linear", Kernel: "gaussian-process"}
    return kinds.get(type(potential.stages), "gradient")


def _start(start: Any) -> Potential | Model:
    """A potential or model, or the model of a file."""
    if isinstance(start, str) and start in FAMILIES:
        raise TypeError(f"fit needs settings with the family: jaxmlip.fit(jaxmlip.build({start!r}, species=…), atoms)")
    return start if isinstance(start, Potential) else as_model(start)


__all__ = ["FIT_METHODS", "Committee", "FitMethod", "GaussNewtonFit", "GaussianProcessFit", "GradientFit", "History"]
__all__ += ["LinearFit", "Posterior", "QuasiNewtonFit", "Terminated", "Variance", "default_settings", "fit"]
__all__ += ["fit_committee", "fit_settings", "method_of", "predict_committee", "predict_variance", "read_log"]
__all__ += ["LossTerms", "Weights", "initial", "loss"]
