"""Peak memory of the sampler of unrelaxed sites, of one size in one process."""

import resource
import sys
from typing import Any

import numpy as np

import jaxmlip
from jaxmlip.cathodes import disorder
from jaxmlip.potentials import build


def run(edge: int) -> list[dict[str, Any]]:
    """Of random rocksalt LiMnO2 with MTP level 8 and 5 Å, one chain in float64; a cell of 8 sites is sampled before."""
    potential = build("mtp", species=("Li", "Mn", "O"), level=8, cutoff=5.0)
    model = jaxmlip.Model(potential, potential.init(None, None))
    _sample(model, 1)
    before = _peak_mb()
    n_sites = _sample(model, edge)
    after = _peak_mb()
    return [{"sites": n_sites, "peak (MB)": after, "more than 8 sites, kB a site": 1000 * (after - before) / n_sites}]


def _sample(model: Any, edge: int) -> int:
    sites = disorder.rocksalt("LiMnO2", repeat=(edge, edge, edge))
    start = disorder.random_numbers(sites, {"Li": 1, "Mn": 1, "O": 2})
    settings = disorder.Sampling(n_samples=3, equilibration=0, sweeps=0.05)
    disorder.sample(model, sites, disorder.Chains(np.array([start]), [1300.0]), settings=settings)
    return len(sites.frame)


def _peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
