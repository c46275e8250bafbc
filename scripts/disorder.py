"""Cation disorder of a rocksalt with one potential: checks against known numbers, short-range order, voltages.

    uv run python scripts/disorder.py checks                                  (percolation threshold, fcc Ising model)
    uv run python scripts/disorder.py cathode model.npz LiMnO2 --cell 6       (order, percolation, voltages)
    uv run python scripts/disorder.py rank model.npz energies.xyz             (rank correlation with DFT energies)

Prints a table and writes it to OUT.json, with settings and versions.
"""

import argparse
from pathlib import Path
from typing import Any

import ase.build
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import jaxmlip
from jaxmlip.cathodes import disorder, layered
from jaxmlip.cathodes.disorder.report import analyse, rows_of
from jaxmlip.evaluate.provenance import provenance, write_json
from jaxmlip.potentials.base import Config, Potential, factory
from jaxmlip.units import BOLTZMANN

BOND = 2.55  # Å, of the fcc lattice of the Ising model
COUPLING = 0.01  # eV


def main() -> None:
    """Run one of the three parts."""
    options = _options()
    rows = {"checks": _checks, "cathode": _cathode, "rank": _rank}[options.part](options)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values()))
    Console(width=140).print(table)
    write_json(options.out, provenance({k: str(v) for k, v in vars(options).items()}, rows=rows))


@factory
def ising(config: Config) -> Potential:
    """Spins on fcc: E = J Σ_pairs s_i s_j over nearest neighbours, species 0 is up, 1 is down."""

    def init(key: Any = None, graph: Any = None) -> Any:
        return {"offsets": jnp.zeros(2), "coupling": jnp.asarray(COUPLING)}

    def atomic_energies(params: Any, graph: Any, vectors: Any) -> Any:
        spin, other = 1.0 - 2.0 * graph.species, 1.0 - 2.0 * graph.neighbor_species
        pairs = jnp.where(graph.mask, spin[:, None] * other, 0)
        return params["coupling"] * jnp.sum(pairs, axis=1).astype(vectors.dtype) / 2

    return Potential(config, init, atomic_energies)


def ising_antiferromagnet(edge: int, temperatures: Any, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Energy and specific heat a spin, in J and k_B, of replicas that exchange; temperatures in J/k_B."""
    potential = ising(Config(species=("Cu", "Ni"), cutoff=1.1 * BOND))
    model = jaxmlip.Model(potential, potential.init(None, None))
    frame = ase.build.bulk("Cu", a=BOND * np.sqrt(2), cubic=True).repeat(edge)
    sites = disorder.sites_of(frame, {"Cu": ("Cu", "Ni")})
    kelvin = np.asarray(temperatures) * COUPLING / BOLTZMANN
    starts = np.array([disorder.random_numbers(sites, {"Cu": 1, "Ni": 1}, k) for k in range(len(kelvin))])
    settings = disorder.Sampling(n_samples=n_samples, equilibration=n_samples // 2, tempering=True)
    found = disorder.sample(model, sites, disorder.Chains(starts, kelvin.tolist()), settings=settings)
    energies = found.energies / COUPLING
    heat = energies.var(axis=0) / np.asarray(temperatures) ** 2 / len(frame)
    return energies.mean(axis=0) / len(frame), heat


def _checks(options: argparse.Namespace) -> list[dict[str, Any]]:
    rng, lengths, contents = np.random.default_rng(0), options.edges, []
    rows: list[dict[str, Any]] = []
    for edge in lengths:
        tetrahedra = disorder.tetrahedra_of(ase.build.bulk("Cu", cubic=True).repeat(edge))
        n_sites = 4 * edge**3
        found = [disorder.threshold_content(tetrahedra, n_sites, rng) for _ in range(options.n_random)]
        contents.append(np.array(found))
        mean, spread = 2 * float(np.mean(found)), 2 * float(np.std(found))
        rows.append(_row(f"0-TM threshold x, {n_sites} sites", mean, spread / len(found) ** 0.5, ""))
    limit = disorder.finite_size_threshold(lengths, contents)
    values = (2 * float(limit.mean), 2 * float(limit.error))
    rows.append(_row("0-TM threshold x, infinite", *values, "1.09 (Lee et al. 2014)"))
    temperatures = np.linspace(1.6, 1.9, 16)
    heat = ising_antiferromagnet(options.ising_edge, temperatures, options.n_samples)[1]
    peak = float(temperatures[heat.argmax()])
    step = float(temperatures[1] - temperatures[0])
    known = "1.72 to 1.74 (Polgreen 1984; Beath and Ryan 2006)"
    return [*rows, _row(f"fcc Ising antiferromagnet kT/J, {4 * options.ising_edge**3} spins", peak, step, known)]


def _row(quantity: str, found: float, error: float, known: str) -> dict[str, Any]:
    return {"quantity": quantity, "found": found, "error": error, "known": known}


def _cathode(options: argparse.Namespace) -> list[dict[str, Any]]:
    model, formula = jaxmlip.load(options.model), options.formula
    amounts = disorder.parse_formula(formula)
    metal = next(symbol for symbol in amounts if symbol not in ("Li", *disorder.ANIONS))
    lattice = disorder.relaxed_lattice(model, formula)
    sites = disorder.rocksalt(formula, repeat=(options.cell,) * 3, lattice=lattice)
    starts = np.array([disorder.random_numbers(sites, amounts, k) for k in range(2)])
    settings = disorder.Sampling(n_samples=options.n_samples, precision="float32")
    found = disorder.sample(model, sites, disorder.Chains(starts, [options.temperature] * 2), settings=settings)
    rows = [{"quantity": "lattice constant (Å)", "mean": lattice, "error": "", "random": ""}]
    rows += rows_of(analyse(sites, found))
    voltages = disorder.compared_voltages(model, formula, temperature=options.temperature, n=options.n_snapshots)
    voltages["layered"] = disorder.disordered_voltage(model, [layered(metal)])
    for name, one in voltages.items():
        quantity = f"average voltage (V), {name}; {len(one.voltages)} cells of {len(one.voltages) + len(one.problems)}"
        rows.append({"quantity": quantity, "mean": one.mean, "error": one.error, "random": ""})
    return rows


def _rank(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Within each composition: energies a site relative to the mean, of relaxed or ideal structures as they are."""
    model = jaxmlip.load(options.model)
    known = set(model.potential.config.symbols)
    frames = [frame for frame in jaxmlip.read(options.data) if set(frame.symbols) <= known]
    predicted = np.array(jaxmlip.predict(model, frames).energy)
    dft = np.array([frame.get_potential_energy() for frame in frames])
    size = np.array([len(frame) for frame in frames])
    rows = []
    formulas = np.array([frame.get_chemical_formula(empirical=True) for frame in frames])
    for formula in [name for name in np.unique(formulas) if (formulas == name).sum() >= 8]:
        chosen = formulas == formula
        rank: Any = spearmanr((predicted / size)[chosen], (dft / size)[chosen])
        numbers = {"structures": int(chosen.sum()), "Spearman": float(rank.statistic), "p": float(rank.pvalue)}
        rows.append({"composition": str(formula), **numbers})
    return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("checks", "cathode", "rank"))
    parser.add_argument("model", nargs="?", default="", help="a model file")
    parser.add_argument("data", nargs="?", default="LiMnO2", help="a formula, or structures with energies")
    parser.add_argument("--out", type=Path, default=Path("disorder.json"), help="where the table goes")
    parser.add_argument("--cell", type=int, default=6, help="conventional cells an edge (default %(default)s)")
    parser.add_argument("--temperature", type=float, default=1300.0, help="K (default %(default)s)")
    parser.add_argument("--n-samples", type=int, default=100, help="of each chain (default %(default)s)")
    parser.add_argument("--n-snapshots", type=int, default=4, help="relaxed cells of each kind (default %(default)s)")
    parser.add_argument("--edges", type=int, nargs="+", default=[4, 6, 8, 12], help="of random rocksalts, in cells")
    parser.add_argument("--n-random", type=int, default=100, help="random orders of each edge (default %(default)s)")
    parser.add_argument("--ising-edge", type=int, default=6, help="cells of the Ising model (default %(default)s)")
    options = parser.parse_args()
    options.formula = options.data
    return options


if __name__ == "__main__":
    main()
