"""Teaching a fitted potential known voltages, through the relaxed structures, while it keeps its energies and forces.

Minimised over the parameters θ is the objective of the fit plus the voltages,

    Σ r(θ)² + w² Σ_metals (V(θ) − V_target)²,

by Gauss-Newton steps: with the Jacobians J of the residuals and G of the voltages

    (JᵀJ + w² GᵀG + μ diag(JᵀJ)) δ = −Jᵀr − w² Gᵀ(V − V_target).

V is of cells that are relaxed anew after each step; its derivative needs no more than energies (`sensitivity`).

References:
    Aydinol et al., Phys. Rev. B 56, 1354 (1997): average voltages. Golub and Van Loan, Matrix Computations: the steps.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ase
import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.linalg import cho_factor, cho_solve

from jaxmlip.cathodes.sensitivity import VoltageGradient, relaxed_ends, voltage_gradients
from jaxmlip.fitting.training.gauss_newton import GaussNewtonFit, normal_matrix, prepared
from jaxmlip.fitting.training.loop import precision
from jaxmlip.fitting.training.problem import Problem, make_problem, split_params
from jaxmlip.potentials.base import Params
from jaxmlip.potentials.model import Model
from jaxmlip.units import LITHIUM_BCC

MOST_PARAMETERS = 4000
"""JᵀJ is held: 128 MB."""

_FRACTIONS = (1.0, 0.5, 0.25, 0.125, 0.0625)  # of a step, until it does better


class Step(NamedTuple):
    """Voltages in V of the metals whose cells relaxed."""

    voltages: dict[str, float]
    rmse: float  # V, against the targets


class FineTuned(NamedTuple):
    """The potential after the last step, and the voltages before the first and after each."""

    model: Model
    steps: list[Step]


def fine_tune(
    model: Model,
    atoms: Sequence[ase.Atoms],
    targets: Mapping[str, float],
    *,
    settings: GaussNewtonFit | None = None,
    voltage_weight: float = 100.0,
    lithium_energy: float = LITHIUM_BCC,
) -> FineTuned:
    """``model`` with voltages of layered LiTMO2 to TMO2 nearer to ``targets`` (metal → V), in float64.

    A step is halved until no cell is lost that relaxed before and the voltages come nearer. A metal whose cells do not
    relax to minima is left out, and tried again after each step.

    >>> GaussNewtonFit(energy_weight=30.0, epochs=4, damping=1e-3).epochs  # four steps
    4

    Args:
        model: fitted to ``atoms`` with the weights of ``settings``.
        atoms: its training structures, whose energies and forces it shall keep.
        targets: voltages in V against lithium.
        settings: weights of the fit's objective, ``epochs`` as the number of steps, ``damping`` as μ.
        voltage_weight: w, of residuals in V.
        lithium_energy: eV per atom.

    Raises:
        ValueError: no cell relaxes, or more parameters than `MOST_PARAMETERS`.
    """
    chosen = settings or GaussNewtonFit(epochs=4)
    with precision("float64"):
        problem = make_problem(model, list(atoms), [], chosen)
    n_parameters = sum(np.size(x) for x in jax.tree.leaves(split_params(problem.potential, problem.params)[0]))
    if n_parameters > MOST_PARAMETERS:
        raise ValueError(f"{n_parameters} parameters are too many for JᵀJ: at most {MOST_PARAMETERS}")
    now = _judged(model, targets, lithium_energy)
    if not now.found:
        raise ValueError("no cell relaxes to a minimum: the potential is too far from layered oxides")
    steps = [now.step]
    for _ in range(chosen.epochs):
        full = _step(problem._replace(params=now.model.params), now, voltage_weight)
        for fraction in _FRACTIONS:
            tried = _judged(_moved(now.model, full, fraction), targets, lithium_energy)
            if tried.found.keys() >= now.found.keys() and tried.step.rmse < now.step.rmse:
                break
        else:
            break  # no step of this direction does better
        now = tried
        steps.append(now.step)
    return FineTuned(now.model, steps)


class _Judged(NamedTuple):
    """A model with the voltages of the metals whose cells relax, and their errors."""

    model: Model
    found: dict[str, VoltageGradient]
    errors: np.ndarray  # V
    step: Step


def _judged(model: Model, targets: Mapping[str, float], lithium_energy: float) -> _Judged:
    ends = relaxed_ends(model, list(targets), fmax=0.01, smax=3e-4)  # an energy's error is of second order in them
    found = voltage_gradients(model, list(targets), lithium_energy=lithium_energy, ends=ends)
    errors = np.array([found[metal].voltage - targets[metal] for metal in found])
    rmse = float(np.sqrt(np.mean(errors**2))) if found else float("inf")
    return _Judged(model, found, errors, Step({metal: one.voltage for metal, one in found.items()}, rmse))


def _moved(model: Model, step: Params, fraction: float) -> Model:
    moved = {
        name: jax.tree.map(lambda x, d: np.asarray(x + fraction * d), model.params[name], step[name]) for name in step
    }
    return Model(model.potential, {**model.params, **moved})


def _step(problem: Problem, now: _Judged, weight: float) -> Params:
    """The Gauss-Newton step of the trained parameters."""
    with precision("float64"):
        params = jax.tree.map(lambda x: jax.numpy.asarray(x, jax.numpy.float64), problem.params)
        facts, trained, data = prepared(problem._replace(params=params))
        vector, unravel = ravel_pytree(trained)
        matrix, slope = normal_matrix(facts, trained, data, np.arange(len(vector)))
        slopes = [one.gradient for one in now.found.values()]
        G = weight * np.stack([np.asarray(ravel_pytree({k: g[k] for k in trained})[0]) for g in slopes])
        diagonal = np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0)
        whole = matrix + G.T @ G + np.diag(max(facts.settings.damping, 1e-12) * diagonal)
        step = -cho_solve(cho_factor(whole), slope + G.T @ (weight * now.errors))
        return jax.tree.map(np.asarray, unravel(jax.numpy.asarray(step)))
