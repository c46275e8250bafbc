"""Hyper-parameters by search: a potential's and its fit's settings that do best on validation structures (Optuna).

What is searched, and where, is ``tunable`` of a family's configuration and of its fit's settings. A trial's score is

    √(w² MSE_energy + MSE_forces)    in eV/Å, energies in eV/atom,

with the same w for every family, whatever weights its fit uses. Trials are kept in a journal: a search that was
stopped goes on, and another one with the same folder adds to it.

References:
    Akiba et al., KDD 2019 (Optuna); Bergstra et al., NIPS 2011 (tree-structured Parzen estimators).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase
import numpy as np

import jaxmlip
from jaxmlip.config import ConfigError, Range, to_mapping, toml_text
from jaxmlip.data.split import split
from jaxmlip.evaluate.errors import errors
from jaxmlip.files import atomic_path
from jaxmlip.fitting import FIT_METHODS, fit_settings, method_of
from jaxmlip.potentials import FAMILIES, Model
from jaxmlip.programs import forget_programs
from jaxmlip.study.config import StudyMethod
from jaxmlip.study.sources import fingerprint
from jaxmlip.study.tasks import elements, method_potential

ENERGY_WEIGHT = 30.0
"""w of the score: 10 meV/atom weigh as much as 0.3 eV/Å."""

JOURNAL, PRESET = "trials.log", "preset.toml"


class Tuned(NamedTuple):
    """What a search found."""

    method: StudyMethod
    """Settings of the best trial, complete enough for a study or ``jaxmlip fit --config``."""
    score: float
    trials: list[dict[str, Any]]
    """One row a trial: number, score, RMSE of energy (eV/atom) and forces (eV/Å), settings tried; None: it failed."""


def tune(
    method: StudyMethod,
    atoms: Sequence[ase.Atoms],
    *,
    n_trials: int = 30,
    folder: str | Path,
    split_by: str = "random",
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Tuned:
    """Search for ``n_trials`` in all, earlier ones in ``folder`` included, and write ``preset.toml`` there.

    A fifth of the structures (by ``split_by``, see `jaxmlip.data.split`) is kept for validation; settings that
    ``method`` gives are not searched.

    >>> ranges(StudyMethod("mtp"))["potential"]["level"]
    Range(low=6, high=16, log=False, step=2)

    Raises:
        ConfigError: Optuna is not installed, nothing is left to search, or the folder holds a search on other data.
    """
    optuna = _optuna()
    space = ranges(method)
    if not any(space.values()):
        raise ConfigError("nothing to tune: every tunable setting is given")
    parts = split(atoms, test=0.2, by=split_by, seed=0)
    train, validation = ([atoms[k] for k in chosen] for chosen in (parts.train, parts.test))
    Path(folder).mkdir(parents=True, exist_ok=True)
    study = _study(optuna, Path(folder), method, f"{fingerprint(atoms)} {split_by}")

    def objective(trial: Any) -> float:
        tried = _tried(trial, method, space)
        potential = method_potential(tried, elements(atoms), train)
        forget_programs()
        model, _ = jaxmlip.fit(potential, train, settings=fit_settings(tried.family, tried.fit))
        value, found = score(model, validation)
        trial.set_user_attr("errors", found)
        return value

    def tell(_: Any, trial: Any) -> None:
        if report is not None:
            report(_row(trial))

    done = [trial for trial in study.trials if trial.state.is_finished()]
    refused = (ValueError, FloatingPointError, np.linalg.LinAlgError)  # a trial that cannot be fitted is a bad one
    study.optimize(objective, n_trials=max(0, n_trials - len(done)), callbacks=[tell], catch=refused)
    rows = [_row(trial) for trial in study.trials]
    if all(row["score"] is None for row in rows):
        raise ConfigError(f"all {len(rows)} trials failed; {JOURNAL} in {folder} tells why")
    best = _tried(study.best_trial, method, space)
    preset = {"family": best.family, "potential": best.potential, "fit": best.fit}
    with atomic_path(Path(folder) / PRESET) as temporary:
        temporary.write_text(toml_text(preset), encoding="utf-8")
    return Tuned(best, float(study.best_value), rows)


def ranges(method: StudyMethod) -> dict[str, dict[str, Range]]:
    """What is searched: ``potential`` and ``fit``, without what ``method`` gives."""
    how = method.fit.get("method") or method_of(method.family)
    potential, fit = FAMILIES[method.family].config, FIT_METHODS[how].settings
    kinds = {"potential": (potential, method.potential), "fit": (fit, method.fit)}
    return {
        part: {name: found for name, found in kind.tunable.items() if name not in given}
        for part, (kind, given) in kinds.items()
    }


def score(model: Model, atoms: Sequence[ase.Atoms]) -> tuple[float, dict[str, float]]:
    """The score of a model (see the top of this module) and the RMSE it is made of, eV/atom and eV/Å."""
    table = errors(model, atoms)
    found = {name: table[name].rmse for name in ("energy", "forces") if name in table}
    squares = [(ENERGY_WEIGHT * found.get("energy", 0.0)) ** 2, found.get("forces", 0.0) ** 2]
    return float(np.sqrt(sum(squares))), found


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError("tuning needs a package more: pip install 'jaxmlip[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _study(optuna: Any, folder: Path, method: StudyMethod, data: str) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.create_study(
        study_name="tune",
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        sampler=optuna.samplers.TPESampler(seed=0),
        load_if_exists=True,
    )
    facts = {"data": data, "method": to_mapping(method)}
    if study.user_attrs and study.user_attrs != facts:
        raise ConfigError(f"{folder} holds a search with other data or settings: give another folder")
    for name, value in facts.items():
        study.set_user_attr(name, value)
    return study


def _tried(trial: Any, method: StudyMethod, space: Mapping[str, Mapping[str, Range]]) -> StudyMethod:
    """The method with the settings of a trial."""
    chosen = {
        part: {name: _suggest(trial, f"{part}.{name}", found) for name, found in names.items()}
        for part, names in space.items()
    }
    return StudyMethod(method.family, {**method.potential, **chosen["potential"]}, {**method.fit, **chosen["fit"]})


def _suggest(trial: Any, name: str, found: Range) -> float | int:
    if found.step is not None:
        return trial.suggest_int(name, int(found.low), int(found.high), step=found.step)
    return trial.suggest_float(name, found.low, found.high, log=found.log)


def _row(trial: Any) -> dict[str, Any]:
    return {"trial": trial.number, "score": trial.value, **trial.user_attrs.get("errors", {}), **trial.params}
