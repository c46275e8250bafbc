"""Cation disorder of a rocksalt with one potential: checks against known numbers, arrangements, voltages.

    uv run python scripts/disorder.py checks                                    (percolation threshold, fcc Ising model)
    uv run python scripts/disorder.py ising                                     (beside scripts/mchammer_peer.py)
    uv run python scripts/disorder.py memory --cell 8                           (of 8 × 8 × 8 × 8 sites)
    uv run python scripts/disorder.py rank rocksalt-mtp energies.xyz            (ranking of arrangements against DFT)
    uv run python scripts/disorder.py order rocksalt-mtp LiMnO2 --out OUT       (on unrelaxed sites)
    uv run python scripts/disorder.py relaxed rocksalt-ace LiMnO2 --out OUT     (short-range order, percolation)
    uv run python scripts/disorder.py voltages rocksalt-ace LiMnO2 --out OUT    (of `relaxed`'s cells too)

Prints a table and writes it to OUT/PART.json, with settings and versions; figures and structures lie beside it.
Chains go on from their checkpoints in OUT. `notebooks/disordered_limno2.md` tells what this gave.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import ase.build
import jax
import numpy as np
from disordering import ising, memory, order, rank, voltages
from rich.console import Console
from rich.table import Table

import jaxmlip
from jaxmlip.cathodes import disorder
from jaxmlip.evaluate.provenance import provenance, write_json

PARTS = ("checks", "ising", "memory", "rank", "order", "relaxed", "voltages")


def main() -> None:
    """Run one of the parts."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    begin = time.process_time()
    with jax.enable_x64(True):
        rows = _rows(options)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns)
    for row in rows:
        values = (row.get(name, "") for name in columns)
        table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in values))
    Console(width=200).print(table)
    seconds = time.process_time() - begin
    settings = {key: str(value) for key, value in vars(options).items()}
    write_json(options.out / f"{options.part}.json", provenance(settings, rows=rows, cpu_seconds=round(seconds)))


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.part == "checks":
        return [*_percolation(options), *ising.transition(options.ising_edges, options.ising_samples)]
    if options.part == "ising":
        return ising.means((2.0, 2.4, 3.0, 4.0), options.ising_samples)
    if options.part == "memory":
        return memory.run(options.cell)
    if not options.model:
        raise SystemExit("name a model file or a shipped potential after the part, such as rocksalt-mtp")
    model = jaxmlip.load(options.model)
    if options.part == "rank":
        return rank.run(model, jaxmlip.read(options.data), options.out)
    run = {"order": order.run, "relaxed": order.relaxed, "voltages": voltages.run}[options.part]
    return run(model, options, options.out)


def _percolation(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Thresholds of random cells of several edges, and of the infinite crystal."""
    rng, contents = np.random.default_rng(0), []
    rows: list[dict[str, Any]] = []
    for edge in options.edges:
        tetrahedra = disorder.tetrahedra_of(ase.build.bulk("Cu", cubic=True).repeat(edge))
        n_sites = 4 * edge**3
        found = [disorder.threshold_content(tetrahedra, n_sites, rng) for _ in range(options.n_random)]
        contents.append(np.array(found))
        mean, spread = 2 * float(np.mean(found)), 2 * float(np.std(found))
        rows.append(_row(f"0-TM threshold x, {n_sites} cation sites", mean, spread / len(found) ** 0.5))
    limit = disorder.finite_size_threshold(options.edges, contents)
    known = "1.09 (Lee et al. 2014)"
    return [*rows, _row("0-TM threshold x, infinite", 2 * float(limit.mean), 2 * float(limit.error), known)]


def _row(quantity: str, found: float, error: float, known: str = "") -> dict[str, Any]:
    return {"quantity": quantity, "found": found, "error": error, "known": known}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("model", nargs="?", default="", help="a model file or a shipped potential")
    parser.add_argument("data", nargs="?", default="LiMnO2", help="a formula, or structures with energies (rank)")
    parser.add_argument(
        "--out", type=Path, default=Path("disorder"), help="folder for everything (default %(default)s)"
    )
    parser.add_argument("--temperature", type=float, default=1300.0, help="K (default %(default)s)")
    parser.add_argument("--heat", type=float, default=2.0, help="of the chains that propose (default %(default)s)")
    parser.add_argument("--lattice", type=float, help="constant in Å (default: of a random cell, relaxed)")
    parser.add_argument("--cell", type=int, default=6, help="cells an edge, unrelaxed (default %(default)s)")
    parser.add_argument("--relaxed-cell", type=int, default=3, help="the same, relaxed (default %(default)s)")
    parser.add_argument("--ladder-cell", type=int, default=4, help="the same, over temperature (default %(default)s)")
    parser.add_argument("--ladder", type=float, nargs="+", help="temperatures in K",
                        default=[900, 1050, 1300, 1550, 1850, 2250, 2800, 3500])  # fmt: skip
    parser.add_argument("--n-chains", type=int, default=4, help="(default %(default)s)")
    parser.add_argument("--n-samples", type=int, default=100, help="of each unrelaxed chain (default %(default)s)")
    parser.add_argument("--n-relaxed", type=int, default=200, help="candidates of each chain (default %(default)s)")
    parser.add_argument("--n-settling", type=int, default=100, help="candidates before those (default %(default)s)")
    parser.add_argument("--max-steps", type=int, default=100, help="of each relaxation (default %(default)s)")
    parser.add_argument("--n-trials", type=int, default=50, help="swaps of a relaxed candidate (default %(default)s)")
    parser.add_argument("--n-snapshots", type=int, default=4, help="cells of each kind (default %(default)s)")
    parser.add_argument(
        "--n-orders", type=int, default=2, help="of half the lithium, lowest taken (default %(default)s)"
    )
    parser.add_argument("--edges", type=int, nargs="+", default=[4, 6, 8, 12, 16], help="of random rocksalts, in cells")
    parser.add_argument("--n-random", type=int, default=100, help="random orders of each edge (default %(default)s)")
    parser.add_argument("--ising-edges", type=int, nargs="+", default=[6], help="cells of the Ising model")
    parser.add_argument("--ising-samples", type=int, default=1000, help="of each chain (default %(default)s)")
    options = parser.parse_args()
    options.formula = options.data
    return options


if __name__ == "__main__":
    main()
