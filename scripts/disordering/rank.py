"""How a potential ranks arrangements of one composition, against DFT energies of the same structures."""

from typing import Any

import ase
import numpy as np
from scipy.stats import spearmanr

import jaxmlip

MIN_STRUCTURES = 8


def rows_of(model: Any, frames: list[ase.Atoms]) -> list[dict[str, Any]]:
    """Of each composition with enough structures: Spearman's ρ and the error of relative energies in meV/atom.

    Relative energies are those from the composition's mean, so the zeros of the elements do not matter; structures
    are taken as they are, and those that repeat another's energy and volume count once.
    """
    known = set(model.potential.config.symbols)
    frames = [frame for frame in _distinct(frames) if set(frame.symbols) <= known]
    size = np.array([len(frame) for frame in frames])
    predicted = np.array(jaxmlip.predict(model, frames).energy) / size
    dft = np.array([frame.get_potential_energy() for frame in frames]) / size
    formulas = np.array([frame.symbols.formula.reduce()[0].format("metal") for frame in frames])
    rows = []
    for formula in [name for name in np.unique(formulas) if (formulas == name).sum() >= MIN_STRUCTURES]:
        chosen = formulas == formula
        rank: Any = spearmanr(predicted[chosen], dft[chosen])
        relative = [values[chosen] - values[chosen].mean() for values in (predicted, dft)]
        error, spread = np.std(relative[0] - relative[1]), np.std(relative[1])
        numbers = {"Spearman": float(rank.statistic), "p": float(rank.pvalue)}
        numbers |= {"error (meV/atom)": 1000 * float(error), "spread of DFT (meV/atom)": 1000 * float(spread)}
        rows.append({"composition": str(formula), "structures": int(chosen.sum()), **numbers})
    return rows


def _distinct(frames: list[ase.Atoms]) -> list[ase.Atoms]:
    kept = {}
    for frame in frames:
        key = (frame.get_chemical_formula(), round(frame.get_potential_energy(), 4), round(frame.get_volume(), 2))
        kept.setdefault(key, frame)
    return list(kept.values())
