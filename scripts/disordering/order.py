"""Arrangements of the cations of one rocksalt: over temperature, at one temperature, and from relaxed energies."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxmlip.cathodes import disorder
from jaxmlip.cathodes.disorder.report import analyse, energy_figure, order_figure, rows_of
from jaxmlip.data import write
from jaxmlip.evaluate import style

_BLUE, _RED, _GREY = "#0072b2", "#d55e00", "#8a949e"
_FIRST = disorder.Sampling(n_samples=1, equilibration=40)  # before relaxed energies decide


def run(model: Any, options: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """Rows of unrelaxed sites, figures and structures."""
    lattice = options.lattice or disorder.relaxed_lattice(model, options.formula, repeat=(3, 3, 3))
    rows = [_row("lattice constant (Å)", lattice, float("nan"), "random cell, relaxed")]
    rows += ladder(model, options, lattice, out)
    for name, temperature in (("cold", options.temperature), ("hot", options.heat * options.temperature)):
        rows += chains(model, options, lattice, out / name, temperature)
    return rows


def chains(
    model: Any, options: argparse.Namespace, lattice: float, out: Path, temperature: float
) -> list[dict[str, Any]]:
    """Unrelaxed sites of a large cell."""
    out.mkdir(exist_ok=True)
    sites, starts = cell_of(options.formula, options.cell, lattice, options.n_chains)
    settings = disorder.Sampling(n_samples=options.n_samples, equilibration=options.n_samples // 2, precision="float32")
    starting = disorder.Chains(starts, [temperature] * len(starts))
    found = disorder.sample(model, sites, starting, settings=settings, checkpoint=out / "chains.npz")
    analysis = analyse(sites, found)
    style.save_figure(order_figure(analysis), out / "order.png")
    style.save_figure(energy_figure(found, len(sites.frame)), out / "chains.png")
    write(out / "sampled.xyz", [disorder.occupied(sites, one) for one in found.numbers[-1]])
    return named(rows_of(analysis), f"{len(sites.frame)} sites, unrelaxed, {temperature:g} K")


def relaxed(model: Any, options: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """Relaxed energies decide, in a small cell; starts are ends of hotter unrelaxed chains."""
    lattice = options.lattice or disorder.relaxed_lattice(model, options.formula, repeat=(3, 3, 3))
    sites, starts = cell_of(options.formula, options.relaxed_cell, lattice, options.n_chains)
    hot = disorder.Chains(starts, [options.heat * options.temperature] * len(starts))
    starts = disorder.sample(model, sites, hot, settings=_FIRST).numbers[-1]
    settings = disorder.RelaxedSampling(
        n_samples=options.n_relaxed, equilibration=options.n_settling, n_trials=options.n_trials,
        heat=options.heat, max_steps=options.max_steps)  # fmt: skip
    starting = disorder.Chains(starts, [options.temperature] * len(starts))
    found = disorder.sample_relaxed(model, sites, starting, settings=settings, checkpoint=out / "relaxed.npz")
    samples = disorder.Samples(*found[:3], float("nan"))
    analysis = analyse(sites, samples)
    style.save_figure(order_figure(analysis), out / "relaxed_order.png")
    style.save_figure(energy_figure(samples, len(sites.frame)), out / "relaxed_chains.png")
    write(out / "sampled_relaxed.xyz", found.structures)
    name = f"{len(sites.frame)} sites, relaxed"
    taken = _row("accepted candidates", float(found.acceptance.mean()), float(found.acceptance.std()), name)
    return [*named(rows_of(analysis), name), taken]


def ladder(model: Any, options: argparse.Namespace, lattice: float, out: Path) -> list[dict[str, Any]]:
    """Order over temperature, replicas that exchange."""
    temperatures = options.ladder
    sites, starts = cell_of(options.formula, options.ladder_cell, lattice, len(temperatures))
    n = options.n_samples
    settings = disorder.Sampling(n_samples=n, equilibration=n, tempering=True, precision="float32")
    starting = disorder.Chains(starts, temperatures)
    found = disorder.sample(model, sites, starting, settings=settings, checkpoint=out / "ladder.npz")
    orders = [disorder.warren_cowley(sites, found.numbers[:, [k]]).alpha for k in range(len(temperatures))]
    energies = [disorder.estimate(found.energies[:, [k]] / len(sites.frame)) for k in range(len(temperatures))]
    style.save_figure(_ladder_figure(temperatures, orders, energies), out / "ladder.png")
    rows = []
    for T, alpha, energy in zip(temperatures, orders, energies, strict=True):
        values = {f"α{k + 1}": float(alpha.mean[k, 0, 1]) for k in range(3)}
        errors = {f"error of α{k + 1}": float(alpha.error[k, 0, 1]) for k in range(3)}
        name = f"{len(sites.frame)} sites, exchange {found.exchanges:.2f}"
        rows.append(_row(f"energy (eV/site) at {T:g} K", float(energy.mean), float(energy.error), name))
        rows[-1] |= values | errors
    return rows


def cell_of(formula: str, edge: int, lattice: float, n: int) -> tuple[Any, np.ndarray]:
    """Sites of a cubic cell, and ``n`` random arrangements."""
    sites = disorder.rocksalt(formula, repeat=(edge, edge, edge), lattice=lattice)
    amounts = disorder.parse_formula(formula)
    return sites, np.array([disorder.random_numbers(sites, amounts, seed) for seed in range(n)])


def named(rows: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """Rows that say of which cell they are."""
    return [_row(row["quantity"], row["mean"], row["error"], where) | {"random": row["random"]} for row in rows]


def _row(quantity: str, mean: float, error: float, where: str) -> dict[str, Any]:
    return {"quantity": quantity, "mean": mean, "error": error, "cell": where}


@style.styled
def _ladder_figure(temperatures: list[float], orders: list[Any], energies: list[Any]) -> Figure:
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, color in enumerate((_BLUE, _RED, _GREY)):
        means = [one.mean[k, 0, 1] for one in orders]
        errors = [one.error[k, 0, 1] for one in orders]
        left.errorbar(temperatures, means, errors, fmt="o-", color=color, capsize=2, label=f"shell {k + 1}")
    left.axhline(0, color="black", linewidth=0.8)
    left.set(xlabel="temperature (K)", ylabel="Warren–Cowley α")
    left.legend()
    means = 1000 * np.array([float(one.mean) for one in energies])
    right.errorbar(
        temperatures, means - means[-1], [1000 * float(one.error) for one in energies], fmt="o-", color=_BLUE
    )
    right.set(xlabel="temperature (K)", ylabel="energy from the hottest (meV per site)")
    return figure
