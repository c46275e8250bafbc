"""How a potential ranks arrangements of one composition, against DFT energies of the same structures."""

from pathlib import Path
from typing import Any

import ase
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

import jaxmlip
from jaxmlip.evaluate import style

MIN_STRUCTURES = 8


def run(model: Any, frames: list[ase.Atoms], out: Path) -> list[dict[str, Any]]:
    """Of each composition with enough structures: Spearman's ρ and the error of relative energies in meV/atom.

    Relative energies are those from the composition's mean, so the zeros of the elements do not matter; structures
    are taken as they are, and those that repeat another's energy and volume count once. The figure shows the
    composition with most structures.
    """
    known = set(model.potential.config.symbols)
    frames = [frame for frame in _distinct(frames) if set(frame.symbols) <= known]
    formulas = np.array([frame.symbols.formula.reduce()[0].format("metal") for frame in frames])
    names, counts = np.unique(formulas, return_counts=True)
    size = np.array([len(frame) for frame in frames])
    energies = np.array(jaxmlip.predict(model, frames).energy) / size
    dft = np.array([frame.get_potential_energy() for frame in frames]) / size
    found = {
        str(name): [1000 * (one[formulas == name] - one[formulas == name].mean()) for one in (dft, energies)]
        for name in names[counts >= MIN_STRUCTURES]
    }
    most = str(names[counts.argmax()])
    if most in found:
        style.save_figure(_figure(most, *found[most]), out / "rank.png")
    return [_row(name, *pair) for name, pair in found.items()]


def _row(name: str, dft: np.ndarray, energies: np.ndarray) -> dict[str, Any]:
    rank: Any = spearmanr(energies, dft)
    numbers = {"Spearman": float(rank.statistic), "p": float(rank.pvalue)}
    numbers |= {"error (meV/atom)": float(np.std(energies - dft)), "spread of DFT (meV/atom)": float(np.std(dft))}
    return {"composition": name, "structures": len(dft), **numbers}


@style.styled
def _figure(name: str, dft: np.ndarray, energies: np.ndarray) -> Figure:
    figure = Figure(figsize=(3.6, 3.4), layout="constrained")
    axis = figure.subplots()
    ends = [min(dft.min(), energies.min()) - 5, max(dft.max(), energies.max()) + 5]
    axis.plot(ends, ends, color="black", linewidth=0.8)
    axis.plot(dft, energies, "o", color="#0072b2", alpha=0.6, markersize=4)
    axis.set(
        xlabel=f"DFT, {name}: energy from the mean (meV/atom)", ylabel="potential (meV/atom)", xlim=ends, ylim=ends
    )
    return figure


def _distinct(frames: list[ase.Atoms]) -> list[ase.Atoms]:
    kept = {}
    for frame in frames:
        key = (frame.get_chemical_formula(), round(frame.get_potential_energy(), 4), round(frame.get_volume(), 2))
        kept.setdefault(key, frame)
    return list(kept.values())
