"""How far structures lie outside of the training data: one interface over grades, variances and committees.

Each measure is a number a structure; divided by what the training data themselves give, it says the same for all: 1 is
the edge of the training data, however large grades, eV or eV/Å are there.

References:
    Podryabinkin, Shapeev, Comput. Mater. Sci. 140, 171 (2017): extrapolation grades.
    Bartók, Kermode, Bernstein, Csányi, Phys. Rev. X 8, 041048 (2018), section III: variances of a GAP.
    Seung, Opper, Sompolinsky, COLT 1992: query by committee.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ase
import jax
import numpy as np
from jaxtyping import Float

from jaxmlip.evaluate.grade import (
    ActiveSet,
    Mode,
    active_set,
    grades,
    grades_by_halves,
    load_active_set,
    save_active_set,
)
from jaxmlip.evaluate.provenance import write_json
from jaxmlip.files import atomic_path
from jaxmlip.fitting import fit_committee, predict_committee, predict_variance
from jaxmlip.fitting.gaussian_process.regression import Posterior
from jaxmlip.fitting.training.frozen import flattened
from jaxmlip.formats import load, save
from jaxmlip.learning.active.keeping import read_json
from jaxmlip.learning.active.settings import Doubt
from jaxmlip.potentials.base import Kernel
from jaxmlip.potentials.model import Model
from jaxmlip.potentials.registry import family_of

Measure = Callable[[Sequence[ase.Atoms]], Float[np.ndarray, " n_structures"]]


class Uncertainty(NamedTuple):
    """Called with structures, it tells how far each lies outside: 1 is the edge of the training data."""

    kind: str
    measure: Measure
    """In its own unit."""
    edge: float
    """Of the training data, in that unit."""
    apart: float = 1.0
    """How far the training structures lie from each other, in units of the edge: those of one half, measured by the
    other half alone. Only grades become large so; of the other measures it is 1."""

    def __call__(self, atoms: Sequence[ase.Atoms]) -> Float[np.ndarray, " n_structures"]:
        """The measure over its value at the edge; infinite where it is no number."""
        if not atoms:
            return np.empty(0)
        found = np.asarray(self.measure(atoms), float) / self.edge
        return np.where(np.isfinite(found), found, np.inf)


class Fitted(NamedTuple):
    """A model, and what its measures may need besides it."""

    model: Model
    train: Sequence[ase.Atoms]
    start: Any
    """Where its fit started: a potential or a model."""
    fit: Any = None
    """Settings of its fit; None: the family's."""
    seed: int = 0
    """Of the parts that members of a committee do not see."""


def uncertainty(fitted: Fitted, settings: Doubt, *, folder: Path | None = None) -> Uncertainty:
    """The uncertainty of a fitted model; what takes long to make is kept in ``folder``, and read from there.

    >>> import jaxmlip
    >>> frames = jaxmlip.datasets.load("mo", split="test")[:6]
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> model, _ = jaxmlip.fit(potential, frames)
    >>> found = uncertainty(Fitted(model, frames, potential), Doubt())
    >>> found.kind, bool(found(frames).max() < 1.1)
    ('grade', True)

    Raises:
        ValueError: a measure that this kind of model does not have.
    """
    kind = settings.kind
    if kind == "auto":
        kind = "variance" if isinstance(fitted.model.potential.stages, Kernel) else "grade"
    measure = MEASURES[kind](fitted, settings, folder)
    own = np.asarray(measure(fitted.train), float)
    edge = float(np.quantile(own, settings.quantile))
    edge = edge if edge > 0 else 1.0
    return Uncertainty(kind, measure, edge, _apart(fitted, settings, folder) / edge if kind == "grade" else 1.0)


def _grade(fitted: Fitted, settings: Doubt, folder: Path | None) -> Measure:
    """Of the worst atom; of structures where atoms have no energies of their own neighbours alone."""
    path = None if folder is None else folder / "active.npz"
    if path is not None and path.exists():
        return partial(_grades, fitted.model, load_active_set(path))
    mode, frozen = _mode(fitted.model), uncounted(fitted.model, settings)
    active = active_set(fitted.model, fitted.train, mode=mode, frozen=frozen)
    if path is not None:
        save_active_set(active, path)
    return partial(_grades, fitted.model, active)


def _mode(model: Model) -> Mode:
    return "atoms" if model.potential.local else "structures"


def _apart(fitted: Fitted, settings: Doubt, folder: Path | None) -> float:
    """The grade at the quantile, of either half of the training structures over the other; infinite for a single one.

    It takes as long as the active set, and is kept in ``apart.json``.
    """
    if len(fitted.train) < 2:
        return float("inf")
    path = None if folder is None else folder / "apart.json"
    if path is not None and path.exists():
        return float(read_json(path)["grade"])
    mode, frozen = _mode(fitted.model), uncounted(fitted.model, settings)
    found = grades_by_halves(fitted.model, fitted.train, mode=mode, frozen=frozen, seed=fitted.seed)
    grade = float(np.quantile(found, settings.quantile))
    if path is not None:
        write_json(path, {"grade": grade})
    return grade


def _grades(model: Model, active: ActiveSet, atoms: Sequence[ase.Atoms]) -> Float[np.ndarray, " n_structures"]:
    return grades(model, active, atoms).structures


def uncounted(model: Model, settings: Doubt) -> tuple[str, ...]:
    """Names of the trained parameters by which grades take no derivatives: as told, else those before the last layer.

    >>> import jaxmlip
    >>> potential = jaxmlip.build("aenet", species=("Mo",), cutoff=4.0, hidden=("2:tanh",))
    >>> uncounted(Model(potential, potential.init(None, None)), Doubt())
    ('networks/W0', 'networks/b0', 'networks/b1')
    """
    if settings.frozen:
        return settings.frozen
    features = family_of(model.potential.config).features
    if features is None:
        return ()
    kept = {*features(model.potential.config), "offsets"}
    fixed = model.potential.fixed
    return tuple(name for name in flattened(model.params) if name not in kept and name.split("/")[0] not in fixed)


def _variance(fitted: Fitted, settings: Doubt, folder: Path | None) -> Measure:
    """Standard deviation of the energy, eV/atom: those of single atoms are open even where their sum is known."""
    if fitted.model.posterior is None:
        name = family_of(fitted.model.potential.config).name
        raise ValueError(f"{name} has no variance: that is of Gaussian processes (gap); use kind = 'grade'")

    def measure(atoms: Sequence[ase.Atoms]) -> Float[np.ndarray, " n_structures"]:
        found = predict_variance(fitted.model, list(atoms)).structures
        return np.sqrt(np.maximum(found, 0.0)) / np.array([len(frame) for frame in atoms])

    return measure


def _committee(fitted: Fitted, settings: Doubt, folder: Path | None) -> Measure:
    """Spread of the force on the worst atom, eV/Å, among models each fitted without one part of the data."""
    n = min(settings.n_members, len(fitted.train))
    paths = [] if folder is None else [folder / f"member-{k}.npz" for k in range(n)]
    if paths and paths[-1].exists():
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *[load(path).params for path in paths])
    else:
        how = {"n_members": n, "settings": fitted.fit, "fold_seed": fitted.seed, "folder": folder}
        made, _ = fit_committee(fitted.start, fitted.train, **how)
        params = made.params
        for k, path in enumerate(paths):
            save(Model(made.potential, jax.tree.map(lambda leaf, k=k: leaf[k], params)), path)
    models = Model(fitted.model.potential, params)

    def measure(atoms: Sequence[ase.Atoms]) -> Float[np.ndarray, " n_structures"]:
        spread = predict_committee(models, list(atoms)).forces_spread
        return np.array([np.linalg.norm(one, axis=1).max() for one in spread])

    return measure


MEASURES: Mapping[str, Callable[[Fitted, Doubt, Path | None], Measure]] = {
    "grade": _grade,
    "variance": _variance,
    "committee": _committee,
}
"""Kinds of uncertainty by name."""


def keep_posterior(model: Model, path: Path) -> None:
    """Write what a Gaussian process left open, which a model's file does not hold; nothing for other models."""
    if model.posterior is not None:
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **model.posterior._asdict())


def with_posterior(model: Model, path: Path) -> Model:
    """The model with what `keep_posterior` wrote."""
    if not path.exists():
        return model
    with np.load(path, allow_pickle=False) as content:
        return Model(model.potential, model.params, Posterior(**content))
