"""Monte Carlo with a cluster expansion in mchammer, beside scripts/disorder.py and scripts/benchmark.py. No JAX here.

    pip install icet && python scripts/mchammer_peer.py --out mchammer.json

Two things: energies and Warren–Cowley parameters of the fcc Ising antiferromagnet at some temperatures, which
`scripts/disorder.py ising` finds with jaxmlip, and the CPU time of a trial swap with a cluster expansion of about 50
clusters on the cation sites of rocksalts of 512 and 4,096 sites.
"""

import argparse
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import ase
import ase.build
import numpy as np
from ase.neighborlist import neighbor_list
from icet import ClusterExpansion, ClusterSpace  # pyright: ignore[reportMissingImports]
from mchammer.calculators import ClusterExpansionCalculator  # pyright: ignore[reportMissingImports]
from mchammer.ensembles import CanonicalEnsemble  # pyright: ignore[reportMissingImports]

BOLTZMANN = 8.617333262e-5  # eV/K
BOND, COUPLING = 2.55, 0.01  # Å and eV, those of scripts/disordering/ising.py
CUTOFFS = (1.9, 1.75, 1.25)  # of pairs, triplets and quadruplets, in lattice constants: 48 parameters


def expansion(cutoffs: list[float], parameters: Any) -> ClusterExpansion:
    """Of Cu and Ni on fcc; ``parameters`` makes them from their number."""
    lattice = BOND * np.sqrt(2)
    space = ClusterSpace(ase.build.bulk("Cu", a=lattice), cutoffs=cutoffs, chemical_symbols=["Cu", "Ni"])
    return ClusterExpansion(space, parameters(len(space)))


def ensemble(model: ClusterExpansion, edge: int, temperature: float, seed: int = 0, interval: int = 0) -> Any:
    """A canonical chain of a cell with as many Cu as Ni at random; T in K."""
    atoms: ase.Atoms = ase.build.bulk("Cu", a=BOND * np.sqrt(2), cubic=True).repeat(edge)
    symbols = np.repeat(["Cu", "Ni"], len(atoms) // 2)
    atoms.symbols[:] = np.random.default_rng(seed).permutation(symbols)
    options = {"temperature": temperature, "random_seed": seed, "ensemble_data_write_interval": interval or 10**9}
    options["trajectory_write_interval"] = interval or 10**9
    calculator = ClusterExpansionCalculator(atoms, model)
    return CanonicalEnsemble(structure=atoms, calculator=calculator, boltzmann_constant=BOLTZMANN, **options)


def ising_means(edge: int, reduced: float, n_sweeps: int, n_chains: int) -> dict[str, float]:
    """Energy a spin in J at kT/J and Warren–Cowley parameters of three shells, with errors from the chains' spread.

    Of each chain the first third of its sweeps settles.
    """
    model = expansion([1.1 * BOND], lambda n: [0.0] * (n - 1) + [6 * COUPLING])  # six pairs a spin
    n_spins, found = 4 * edge**3, []
    for seed in range(n_chains):
        chain = ensemble(model, edge, reduced * COUPLING / BOLTZMANN, seed=seed, interval=n_spins)
        chain.run(n_spins * n_sweeps)
        energies = np.asarray(chain.data_container.get("potential"))[n_sweeps // 3 :] / COUPLING / n_spins
        frames = chain.data_container.get("trajectory")[n_sweeps // 3 :]
        found.append([energies.mean(), *np.mean([shell_products(one) for one in frames], axis=0)])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(n_chains)
    names = ("energy a spin (J)", "α1", "α2", "α3")
    errors = {f"error of {name}": float(x) for name, x in zip(names, error, strict=True)}
    return {name: float(x) for name, x in zip(names, mean, strict=True)} | errors


def shell_products(atoms: ase.Atoms, n_shells: int = 3) -> list[float]:
    """Mean product of spins of neighbours, shell by shell: the Warren–Cowley parameter of a composition of one half."""
    spins = np.where(atoms.symbols == "Cu", 1, -1)
    first, second, distance = neighbor_list("ijd", atoms, BOND * np.sqrt(n_shells + 0.5))
    shell = np.rint((distance / BOND) ** 2).astype(int)  # neighbours of fcc lie at √1, √2, √3 bonds
    return [float((spins[first] * spins[second])[shell == k + 1].mean()) for k in range(n_shells)]


def trial_time(edge: int, n_trials: int) -> tuple[int, float]:
    """Number of clusters, and CPU seconds a trial."""
    rng = np.random.default_rng(0)
    lattice = BOND * np.sqrt(2)
    model = expansion([c * lattice for c in CUTOFFS], lambda n: rng.normal(size=n) * 1e-3)
    chain = ensemble(model, edge, 1300.0)
    chain.run(n_trials // 10)
    begin = time.process_time()
    chain.run(n_trials)
    return len(model.parameters), (time.process_time() - begin) / n_trials


def main() -> None:
    """Print and write all numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("mchammer.json"), help="where the numbers go")
    parser.add_argument("--n-trials", type=int, default=5000, help="that are timed (default %(default)s)")
    parser.add_argument("--n-sweeps", type=int, default=600, help="of a chain of the Ising model (default %(default)s)")
    parser.add_argument("--n-chains", type=int, default=8, help="at each temperature (default %(default)s)")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for edge in (4, 8):
        n_clusters, seconds = trial_time(edge, options.n_trials)
        rows.append({"sites": 8 * edge**3, "clusters": n_clusters, "trials per second": 1 / seconds})
        print(rows[-1], flush=True)
    for reduced in (2.0, 2.4, 3.0, 4.0):
        means = ising_means(4, reduced, options.n_sweeps, options.n_chains)
        rows.append({"spins": 256, "kT/J": reduced, **means})
        print(rows[-1], flush=True)
    result = {"icet": importlib.metadata.version("icet"), "rows": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
