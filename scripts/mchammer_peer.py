"""Monte Carlo with a cluster expansion in mchammer, beside scripts/disorder.py and scripts/benchmark.py. No JAX here.

    pip install icet && python scripts/mchammer_peer.py --out mchammer.json

Two things: mean energies of the fcc Ising antiferromagnet at some temperatures, which `scripts/disorder.py checks`
must reproduce, and the CPU time of a trial swap with a cluster expansion of about 50 clusters on the cation sites of
rocksalts of 512 and 4,096 sites.
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
    calculator = ClusterExpansionCalculator(atoms, model)
    return CanonicalEnsemble(structure=atoms, calculator=calculator, boltzmann_constant=BOLTZMANN, **options)


def ising_energy(edge: int, reduced: float, n_sweeps: int) -> tuple[float, float]:
    """Mean energy a spin in J at kT/J, and its standard error from ten blocks; a third of the sweeps settles first."""
    model = expansion([1.1 * BOND], lambda n: [0.0] * (n - 1) + [6 * COUPLING])  # six pairs a spin
    n_spins = 4 * edge**3
    chain = ensemble(model, edge, reduced * COUPLING / BOLTZMANN, interval=n_spins)
    chain.run(n_spins * n_sweeps)
    values = np.asarray(chain.data_container.get("potential"))[n_sweeps // 3 :] / COUPLING / n_spins
    blocks = [float(one.mean()) for one in np.array_split(values, 10)]
    return float(np.mean(blocks)), float(np.std(blocks, ddof=1) / np.sqrt(10))


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
    parser.add_argument("--n-sweeps", type=int, default=600, help="of the Ising model (default %(default)s)")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for edge in (4, 8):
        n_clusters, seconds = trial_time(edge, options.n_trials)
        rows.append({"sites": 8 * edge**3, "clusters": n_clusters, "trials per second": 1 / seconds})
        print(rows[-1], flush=True)
    for reduced in (1.6, 2.0, 3.0):
        mean, error = ising_energy(4, reduced, options.n_sweeps)
        rows.append({"spins": 256, "kT/J": reduced, "energy a spin (J)": mean, "error": error})
        print(rows[-1], flush=True)
    result = {"icet": importlib.metadata.version("icet"), "rows": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
