"""Voltages of one composition: layered, with cations at random, and as Monte Carlo on relaxed energies leaves them."""

import argparse
from pathlib import Path
from typing import Any

import ase
import numpy as np
from matplotlib.figure import Figure

import jaxmlip
from disordering.order import cell_of
from jaxmlip.cathodes import VoltageProfile, disorder, layered
from jaxmlip.evaluate import style

_COLORS = {"layered": "#009e73", "sampled": "#0072b2", "random": "#d55e00"}
_LAYERED = (4, 2, 2)  # primitive cells: 64 atoms, as the disordered ones
_LATTICE = 4.2  # Å, where random cells begin to relax
_CHAINS = disorder.Sampling(n_samples=20, equilibration=0, sweeps=2.0)  # of lithium and vacancies
_GRID = np.linspace(0.02, 0.98, 49)


def run(model: Any, options: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """Rows of average voltages; figures of voltages over lithium content."""
    amounts = disorder.parse_formula(options.formula)
    metal = next(symbol for symbol in amounts if symbol not in ("Li", *disorder.ANIONS))
    hosts = {"layered": [layered(metal).repeat(_LAYERED)]} | disordered(options, out)
    rows, profiles = [], {}
    for name, frames in hosts.items():
        found, problems = _profiles(model, frames)
        profiles[name] = found
        rows.append(_row(name, found, len(frames), problems))
    style.save_figure(_profile_figure(profiles), out / "voltages.png")
    return rows


def disordered(options: argparse.Namespace, out: Path) -> dict[str, list[ase.Atoms]]:
    """Random cells, and as many ends of the chains on relaxed energies that ``order`` left in the same folder."""
    path = out / "sampled_relaxed.xyz"
    if not path.exists():
        raise SystemExit(f"{path} does not exist: run the part `order` with the same --out first")
    sampled = jaxmlip.read(path)[: options.n_snapshots]
    sites, starts = cell_of(options.formula, options.relaxed_cell, options.lattice or _LATTICE, len(sampled))
    return {"random": [disorder.occupied(sites, one) for one in starts], "sampled": sampled}


def _profiles(model: Any, frames: list[ase.Atoms]) -> tuple[list[VoltageProfile], list[str]]:
    found, problems = [], []
    for frame in frames:
        full = int((frame.numbers == 3).sum())
        try:
            contents = tuple(range(full // 4, full, full // 4))
            found.append(disorder.relaxed_profile(model, frame, contents=contents, n_orders=1, settings=_CHAINS))
        except ValueError as error:
            problems.append(str(error))
    return found, problems


def _row(name: str, found: list[VoltageProfile], n: int, problems: list[str]) -> dict[str, Any]:
    means = np.array([one.average_voltage for one in found])
    error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    steps = np.array([[one.plateaus[0].voltage, one.plateaus[-1].voltage] for one in found]).reshape(-1, 2)
    width = float((steps.max(axis=1) - steps.min(axis=1)).mean()) if len(steps) else float("nan")
    mean = float(means.mean()) if len(means) else float("nan")
    known = {"cells": f"{len(found)} of {n}", "first to last step (V)": width}
    return {"cations": name, "mean voltage (V)": mean, "error": error, **known, "problems": "; ".join(problems)}


@style.styled
def _profile_figure(profiles: dict[str, list[VoltageProfile]]) -> Figure:
    """Means over the cells of each kind; bands are the standard deviation of the cells."""
    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axis = figure.subplots()
    for name, found in profiles.items():
        if not found:
            continue
        curves = np.array([_curve(one) for one in found])
        axis.plot(
            _GRID, curves.mean(axis=0), color=_COLORS[name], label=f"{name}, {len(found)} cell{'s' * (len(found) > 1)}"
        )
        spread = curves.std(axis=0)
        axis.fill_between(_GRID, curves.mean(axis=0) - spread, curves.mean(axis=0) + spread, color=_COLORS[name],
                          alpha=0.2, linewidth=0)  # fmt: skip
    axis.set(xlabel="lithium in the host", ylabel="voltage against Li (V)", xlim=(0, 1))
    axis.legend()
    return figure


def _curve(profile: VoltageProfile) -> np.ndarray:
    full = profile.contents[-1].lithium
    values = np.full(len(_GRID), np.nan)
    for step in profile.plateaus:
        values[(step.low / full <= _GRID) & (step.high / full >= _GRID)] = step.voltage
    return values
