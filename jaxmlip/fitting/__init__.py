"""From labelled structures to a `Model`: one `fit` for every family, with the method that suits it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase

from jaxmlip.config import ConfigError, from_mapping, unknown_name
from jaxmlip.fitting.gaussian_process.predictive_variance import Variance, predict_variance
from jaxmlip.fitting.gaussian_process.regression import GaussianProcessFit, Posterior, fit_gaussian_process, posterior
from jaxmlip.fitting.history import History, read_log
from jaxmlip.fitting.least_squares.linear import LinearFit, fit_linear
from jaxmlip.fitting.loss import LossTerms, initial, loss
from jaxmlip.fitting.objective import Weights
from jaxmlip.fitting.training.gauss_newton import GaussNewtonFit, gauss_newton_method
from jaxmlip.fitting.training.gradient import GradientFit, gradient_method
from jaxmlip.fitting.training.loop import train
from jaxmlip.fitting.training.quasi_newton import QuasiNewtonFit, quasi_newton_method
from jaxmlip.potentials import FAMILIES
from jaxmlip.potentials.base import Model, Potential
from jaxmlip.progress import Report

METHODS = {
    "linear": LinearFit,
    "gaussian-process": GaussianProcessFit,
    "gauss-newton": GaussNewtonFit,
    "quasi-newton": QuasiNewtonFit,
    "gradient": GradientFit,
}
"""Settings by the names that the command line and study files use."""

_ITERATIVE = {
    GaussNewtonFit: gauss_newton_method,
    QuasiNewtonFit: quasi_newton_method,
    GradientFit: gradient_method,
}


def fit(
    start: Potential | Model,
    atoms: Sequence[ase.Atoms],
    *,
    settings: Any = None,
    validation: Sequence[ase.Atoms] | None = None,
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
        start: a potential from `jaxmlip.build` or a family's factory, or a model to go on from (fine-tuning, transfer
            learning): a linear fit keeps what is not linear in its parameters, the others start from them, with
            offsets fitted anew unless the settings say otherwise.
        atoms: structures with labels, as `jaxmlip.read` gives them.
        settings: `LinearFit`, `GaussianProcessFit`, `GaussNewtonFit`, `QuasiNewtonFit` or `GradientFit`; the default
            is the family's. Weights mean the same in each; a Gaussian process has the noise of the data instead.
        validation: structures that choose the best epoch of an iterative fit; by default a part of ``atoms``.
        folder: an iterative fit keeps its log (``log.jsonl``) and checkpoints here, and goes on from them.
        show_progress: a progress bar on standard error; or, of iterative fits, a function that gets each row.

    Returns:
        The fitted model, and a history: its ``summary`` tells how the fit ended and the time, its ``rows`` each epoch.

    Raises:
        ValueError: data without labels that carry weight, labels that are not finite, an element that the potential
            does not know, a potential that the method cannot fit, or a checkpoint of another run.
        FloatingPointError: a training run diverged.
        SystemExit: SIGTERM arrived; with a folder an iterative fit leaves a checkpoint after the epoch and ends.
    """
    potential = start.potential if isinstance(start, Model) else start
    settings = default_settings(potential) if settings is None else settings
    if isinstance(settings, LinearFit):
        return fit_linear(start, atoms, settings=settings, show_progress=show_progress is True)
    if isinstance(settings, GaussianProcessFit):
        return fit_gaussian_process(start, atoms, settings=settings, show_progress=show_progress is True)
    method = _ITERATIVE.get(type(settings))
    if method is None:
        raise TypeError(f"settings must be one of {', '.join(kind.__name__ for kind in METHODS.values())}")
    where = None if folder is None else Path(folder)
    return train(start, (atoms, validation), method, settings, folder=where, show_progress=show_progress)


def fit_settings(family: str, values: Mapping[str, Any]) -> Any:
    """The settings of a family's fit from plain values, as in a TOML file: ``method`` names one of `METHODS`.

    >>> fit_settings("snap", {"ridge": 0.1}).ridge
    0.1
    >>> fit_settings("snap", {"method": "gradient", "epochs": 3}).epochs
    3

    Raises:
        ConfigError: no such method or setting, or a value of the wrong kind.
    """
    values = dict(values)
    method = values.pop("method", FAMILIES[family].method)
    if method not in METHODS:
        raise ConfigError(unknown_name("method of fitting", method, METHODS))
    return from_mapping(METHODS[method], values, where="fit")


def default_settings(potential: Potential) -> Any:
    """How `fit` fits a potential unless told otherwise: as its family says, else linear where it is."""
    kinds = {family.config: family.method for family in FAMILIES.values()}
    return METHODS[kinds.get(type(potential.config), "linear" if potential.linear else "gradient")]()


__all__ = ["METHODS", "GaussNewtonFit", "GaussianProcessFit", "GradientFit", "History", "LinearFit", "QuasiNewtonFit"]
__all__ += ["Posterior", "Variance", "default_settings", "fit", "fit_settings", "posterior", "predict_variance"]
__all__ += ["LossTerms", "Weights", "initial", "loss", "read_log"]
