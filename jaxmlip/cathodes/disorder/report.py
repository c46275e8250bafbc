"""What a run found, as rows, figures and a page: short-range order, tetrahedra, percolation, voltages."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxmlip.cathodes.disorder.lithium import VoltageCurve
from jaxmlip.cathodes.disorder.order import (
    WarrenCowley,
    random_tetrahedra,
    tetrahedra_of,
    tetrahedron_fractions,
    warren_cowley,
)
from jaxmlip.cathodes.disorder.percolation import percolating_fraction, zero_tm_percolation
from jaxmlip.cathodes.disorder.sampling import Samples
from jaxmlip.cathodes.disorder.sites import Sites
from jaxmlip.cathodes.disorder.statistics import Estimate, estimate
from jaxmlip.evaluate import style
from jaxmlip.evaluate.report import Picture, Section, Table

_N_RANDOM = 20  # random arrangements beside the samples
_MARGIN = 0.05  # V, around voltages of sites, which may all be the same
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


class Analysis(NamedTuple):
    """Structure of the cation sublattice, sampled and at random."""

    order: WarrenCowley
    tetrahedra: Estimate  # [5], fractions by number of lithium corners
    random: np.ndarray  # [5]
    percolating: Estimate  # fraction of lithium in percolating 0-TM clusters
    random_percolating: Estimate
    energy: Estimate  # eV per site, of the chains


def analyse(sites: Sites, samples: Samples, *, n_shells: int = 3) -> Analysis:
    """Averages over all samples with standard errors; at most some hundred samples are looked at for percolation."""
    part = sites.sublattices[0]
    frame: Any = sites.frame[part.sites]
    numbers = samples.numbers[:, :, part.sites]
    tetrahedra = tetrahedra_of(frame)
    thin = numbers[:: max(1, len(numbers) // 100)]
    rng = np.random.default_rng(0)
    random = [zero_tm_percolation(tetrahedra, rng.permutation(numbers[0, 0]) == 3).fraction for _ in range(_N_RANDOM)]
    return Analysis(
        warren_cowley(sites, samples.numbers, n_shells=n_shells),
        tetrahedron_fractions(tetrahedra, numbers),
        random_tetrahedra(float((numbers == 3).mean())),
        estimate(percolating_fraction(tetrahedra, thin)),
        estimate(np.array(random)[:, None]),
        estimate(samples.energies / len(sites.frame)),
    )


def rows_of(found: Analysis) -> list[dict[str, Any]]:
    """One row a number, with its error and what a random arrangement has."""
    rows = []
    symbols = found.order.symbols
    for k, distance in enumerate(found.order.distances):
        for a, one in enumerate(symbols):
            for b, other in enumerate(symbols[a + 1 :], a + 1):
                name = f"Warren–Cowley {one}–{other}, {distance:.2f} Å"
                rows.append(_row(name, found.order.alpha, (k, a, b), 0.0))
    for n in range(5):
        rows.append(_row(f"tetrahedra with {n} Li", found.tetrahedra, (n,), float(found.random[n])))
    random = float(found.random_percolating.mean)
    rows.append(_row("Li in percolating 0-TM clusters", found.percolating, (), random))
    return [*rows, _row("energy (eV/site)", found.energy, (), None)]


def _row(quantity: str, found: Estimate, place: tuple[int, ...], random: float | None) -> dict[str, Any]:
    mean, error = float(found.mean[place]), float(found.error[place])
    return {"quantity": quantity, "mean": mean, "error": error, "random": random}


@style.styled
def order_figure(found: Analysis) -> Figure:
    """Left: Warren–Cowley parameters of unlike pairs over the shells; right: tetrahedra against a random alloy."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    symbols, alpha = found.order.symbols, found.order.alpha
    pairs = [(a, b) for a in range(len(symbols)) for b in range(a + 1, len(symbols))]
    shells = np.arange(1, len(found.order.distances) + 1)
    for k, (a, b) in enumerate(pairs):
        values = {"yerr": alpha.error[:, a, b], "fmt": "o-", "color": _COLORS[k % len(_COLORS)], "capsize": 2}
        left.errorbar(shells, alpha.mean[:, a, b], label=f"{symbols[a]}–{symbols[b]}", **values)
    left.axhline(0, color="black", linewidth=0.8)
    left.set(xlabel="shell of cation neighbours", ylabel="Warren–Cowley α", xticks=shells)
    left.legend()
    n = np.arange(5)
    right.bar(n - 0.2, found.tetrahedra.mean, 0.4, yerr=found.tetrahedra.error, color=_COLORS[0], label="sampled")
    right.bar(n + 0.2, found.random, 0.4, color="#b8c0c8", label="random")
    right.set(xlabel="lithium at the corners of a tetrahedron", ylabel="fraction of tetrahedra", xticks=n)
    right.legend()
    return figure


@style.styled
def energy_figure(samples: Samples, n_sites: int) -> Figure:
    """Energy of each chain over its samples: whether it is in equilibrium."""
    figure = Figure(figsize=(7.2, 2.4), layout="constrained")
    axes = figure.subplots()
    for k in range(samples.energies.shape[1]):
        axes.plot(samples.energies[:, k] / n_sites * 1000, color=_COLORS[k % len(_COLORS)], linewidth=1)
    axes.set(xlabel="sample", ylabel="energy (meV per site)")
    return figure


class Lithium(NamedTuple):
    """Lithium of one arrangement of cations: content over voltage, and the voltage of each site."""

    curve: VoltageCurve
    sites: Float[np.ndarray, " n_lithium"]  # V


@style.styled
def voltage_figure(found: Mapping[str, Lithium]) -> Figure:
    """Left: lithium content over voltage; right: at which voltage how much of the lithium would leave alone."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    values = np.concatenate([one.sites for one in found.values()])
    n_bins = min(30, max(8, min(len(one.sites) for one in found.values()) // 4))
    edges = np.linspace(values.min() - _MARGIN, values.max() + _MARGIN, n_bins + 1)
    for k, (name, one) in enumerate(found.items()):
        curve, shown = one.curve, {"color": _COLORS[k % len(_COLORS)], "label": name}
        left.errorbar(curve.content.mean, curve.voltages, xerr=curve.content.error, fmt="o-", capsize=2, **shown)
        share = np.full(len(one.sites), 1 / len(one.sites))
        right.hist(one.sites, bins=edges.tolist(), weights=share, alpha=0.6, **shown)
    left.set(xlabel="lithium that stays", ylabel="voltage against Li (V)", xlim=(-0.03, 1.03))
    right.set(xlabel="voltage of each lithium site (V)", ylabel="share of the lithium")
    left.legend()
    return figure


def sections(
    found: Analysis, samples: Samples, n_sites: int, *, about: str = "", further: Sequence[Section] = ()
) -> list[Section]:
    """Of the page, for `jaxmlip.evaluate.report.write_report`; ``about`` says what was sampled."""
    rows = [[row["quantity"], row["mean"], row["error"], row["random"]] for row in rows_of(found)]
    table = Table(["quantity", "mean", "standard error", "random"], rows)
    reading = (
        "Means over the samples of all chains; standard errors count correlated samples as fewer. Zero of a "
        "Warren–Cowley parameter is a random arrangement, positive: the two avoid each other. Lithium moves quickly "
        "through tetrahedra without a transition metal (0-TM), and through the crystal where these percolate."
    )
    caption = "Short-range order by shell, and tetrahedra by their number of lithium corners."
    energy = Picture(energy_figure(samples, n_sites), "Energy of each chain: a drift means that it is too short.")
    accepted = ", ".join(f"{100 * one:.1f} %" for one in samples.acceptance)
    acceptance = f"Accepted of what each chain tried: {accepted}."
    texts = [text for text in (about, reading) if text]
    first = Section("Short-range order", texts, [table], [Picture(order_figure(found), caption)])
    return [first, *further, Section("Chains", [acceptance], pictures=[energy])]
