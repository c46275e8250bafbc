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
from jaxmlip.cathodes.profile import content_of, orderings, profile_of
from jaxmlip.evaluate import style
from jaxmlip.simulate import relax
from jaxmlip.units import LITHIUM_BCC

_COLORS = {"layered": "#009e73", "sampled": "#0072b2", "random": "#d55e00"}
_LAYERED = (4, 2, 2)  # primitive cells: 64 atoms, as the disordered ones
_LATTICE = 4.2  # Å, where random cells begin to relax
_LIMITS: Any = {"fmax": 0.03, "smax": 5e-4, "max_steps": 300}
_GRID = np.linspace(0.02, 0.98, 49)
_BETWEEN = (0.25, 0.75)  # lithium contents in the middle of the steps


def run(model: Any, options: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """Rows of average voltages and of each step; a figure of voltages over lithium content."""
    amounts = disorder.parse_formula(options.formula)
    metal = next(symbol for symbol in amounts if symbol not in ("Li", *disorder.ANIONS))
    hosts = {"layered": [layered(metal).repeat(_LAYERED)]} | disordered(options, out)
    found = iter(_profiles(model, [one for frames in hosts.values() for one in frames], options))
    rows, profiles = [], {}
    for name, frames in hosts.items():
        results = [next(found) for _ in frames]
        problems = [one for one in results if isinstance(one, str)]
        profiles[name] = [one for one in results if not isinstance(one, str)]
        rows.append(_row(name, profiles[name], len(frames), problems))
    style.save_figure(_profile_figure(profiles), out / "voltages.png")
    return rows


def disordered(options: argparse.Namespace, out: Path) -> dict[str, list[ase.Atoms]]:
    """Random cells, and as many ends of the chains on relaxed energies that ``relaxed`` left in the same folder."""
    path = out / "sampled_relaxed.xyz"
    if not path.exists():
        raise SystemExit(f"{path} does not exist: run the part `relaxed` with the same --out first")
    sampled = jaxmlip.read(path)[: options.n_snapshots]
    sites, starts = cell_of(options.formula, options.relaxed_cell, options.lattice or _LATTICE, len(sampled))
    return {"random": [disorder.occupied(sites, one) for one in starts], "sampled": sampled}


def _profiles(model: Any, frames: list[ase.Atoms], options: argparse.Namespace) -> list[VoltageProfile | str]:
    """Of each cell its profile, or why it has none; all cells relax side by side, so that shapes are compiled once."""
    full = relax(model, frames, **_LIMITS)
    starts = [_delithiated(one.atoms, options.n_orders) for one in full]
    ends = iter(relax(model, [one for groups in starts for _, group in groups for one in group], **_LIMITS))
    found: list[VoltageProfile | str] = []
    for host, groups in zip(full, starts, strict=True):
        rows = [content_of(n, [next(ends) for _ in group]) for n, group in groups]
        rows.append(content_of(int((host.atoms.numbers == 3).sum()), [host]))
        try:
            found.append(profile_of(rows, lithium_energy=LITHIUM_BCC))
        except ValueError as error:
            found.append(str(error))
    return found


def _delithiated(host: ase.Atoms, n_orders: int) -> list[tuple[int, list[ase.Atoms]]]:
    """Without lithium, and with half of it in random arrangements."""
    half = int((host.numbers == 3).sum()) // 2
    return [(n, orderings(host, n, n_orders, 0)) for n in (0, half)]


def _row(name: str, found: list[VoltageProfile], n: int, problems: list[str]) -> dict[str, Any]:
    means = np.array([one.average_voltage for one in found])
    curves = np.array([_curve(one, _BETWEEN) for one in found]).reshape(-1, len(_BETWEEN))
    at = {f"V at {x}": float(v) for x, v in zip(_BETWEEN, curves.mean(axis=0), strict=True)} if len(curves) else {}
    at |= {f"error at {x}": _error(v) for x, v in zip(_BETWEEN, curves.T, strict=True)}
    steps = np.array([[one.plateaus[0].voltage, one.plateaus[-1].voltage] for one in found]).reshape(-1, 2)
    width = float((steps.max(axis=1) - steps.min(axis=1)).mean()) if len(steps) else float("nan")
    mean = float(means.mean()) if len(means) else float("nan")
    known = {"cells": f"{len(found)} of {n}", "first to last step (V)": width}
    row = {"cations": name, "mean voltage (V)": mean, "error": _error(means), **known, **at}
    return row | {"cells (V)": np.round(means, 3).tolist(), "problems": "; ".join(problems)}


def _error(values: np.ndarray) -> float:
    """Standard error of independent cells."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


@style.styled
def _profile_figure(profiles: dict[str, list[VoltageProfile]]) -> Figure:
    """Means over the cells of each kind; bands are the standard deviation of the cells."""
    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axis = figure.subplots()
    for name, found in profiles.items():
        if not found:
            continue
        curves = np.array([_curve(one, _GRID) for one in found])
        label = f"{name}, {len(found)} cell{'s' * (len(found) > 1)}"
        axis.plot(_GRID, curves.mean(axis=0), color=_COLORS[name], label=label)
        spread = curves.std(axis=0)
        axis.fill_between(_GRID, curves.mean(axis=0) - spread, curves.mean(axis=0) + spread, color=_COLORS[name],
                          alpha=0.2, linewidth=0)  # fmt: skip
    axis.set(xlabel="lithium in the host", ylabel="voltage against Li (V)", xlim=(0, 1))
    axis.legend()
    return figure


def _curve(profile: VoltageProfile, contents: Any) -> np.ndarray:
    """The voltage at each of ``contents``, from 0 to 1."""
    full, contents = profile.contents[-1].lithium, np.asarray(contents)
    values = np.full(len(contents), np.nan)
    for step in profile.plateaus:
        values[(step.low / full <= contents) & (step.high / full >= contents)] = step.voltage
    return values
