"""The voltage curve of a host that relaxes: Monte Carlo chooses where lithium stays, a relaxation gives the energy.

For each lithium content canonical chains of lithium and vacancies on the fixed sites of the fully lithiated host
look for low energies; the lowest structure of each chain is relaxed, and the voltages are those of the convex hull of
the relaxed energies (`jaxmlip.cathodes.profile`). Like any hull over a choice of arrangements it is an upper bound.

References:
    Van der Ven, Aydinol, Ceder, Kresse, Hafner, Phys. Rev. B 58, 2975 (1998).
"""

from collections.abc import Sequence

import ase
import numpy as np

from jaxmlip.cathodes.disorder.lithium import lithium_sites
from jaxmlip.cathodes.disorder.sampling import Chains, Sampling, sample
from jaxmlip.cathodes.disorder.sites import occupied
from jaxmlip.cathodes.profile import VoltageProfile, content_of, profile_of
from jaxmlip.cathodes.voltage import LITHIUM_BCC
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.relax import relax


def lithium_orders(
    model: Model,
    host: ase.Atoms,
    contents: Sequence[int],
    *,
    n_orders: int = 2,
    temperature: float = 300.0,
    settings: Sampling | None = None,
) -> list[list[ase.Atoms]]:
    """For each content the lowest structures that ``n_orders`` chains at a temperature in K visit, on fixed sites.

    Not run here, it takes a minute:

    >>> lithium_orders(model, host, (4, 8))  # doctest: +SKIP

    Raises:
        ValueError: a host without lithium, or more lithium than it has.
    """
    sites = lithium_sites(host)
    held = np.flatnonzero(host.numbers == 3)
    if not all(0 <= n <= len(held) for n in contents):
        raise ValueError(f"contents must lie in 0 … {len(held)}, the lithium atoms of the host; got {tuple(contents)}")
    rng = np.random.default_rng(settings.seed if settings else 0)
    starts = np.tile(host.numbers, (len(contents) * n_orders, 1))
    for start, n in zip(starts, np.repeat(contents, n_orders), strict=True):
        start[rng.permutation(held)[n:]] = 0
    chosen = settings or Sampling(n_samples=40, equilibration=0, sweeps=2.0)
    found = sample(model, sites, Chains(starts, [temperature] * len(starts)), settings=chosen)
    lowest = found.energies.argmin(axis=0)
    frames = [occupied(sites, found.numbers[k, chain]) for chain, k in enumerate(lowest)]
    return [frames[k : k + n_orders] for k in range(0, len(frames), n_orders)]


def relaxed_profile(
    model: Model,
    host: ase.Atoms,
    *,
    contents: Sequence[int],
    n_orders: int = 2,
    lithium_energy: float = LITHIUM_BCC,
    settings: Sampling | None = None,
) -> VoltageProfile:
    """Voltages of ``host`` over its lithium content, with arrangements from `lithium_orders`, relaxed side by side.

    Not run here, it takes minutes:

    >>> relaxed_profile(model, host, contents=(4, 8, 12)).average_voltage  # doctest: +SKIP

    Args:
        model: a potential with its parameters.
        host: with all its lithium; it is relaxed first.
        contents: numbers of lithium atoms between none and full, which are added.
        n_orders: arrangements of each content.
        lithium_energy: eV per atom of metallic lithium, on the energy scale of the model's training data.
        settings: of the chains.

    Raises:
        ValueError: what `lithium_orders` refuses, or a full or empty host that does not relax to a minimum.
    """
    full = int((host.numbers == 3).sum())
    limits = {"fmax": 0.03, "smax": 5e-4, "max_steps": 500}
    start = relax(model, host, **limits)
    if not start.converged:
        raise ValueError(f"the full host {host.get_chemical_formula()} has no minimum: {start.problem}")
    between = sorted(set(contents) - {0, full})
    orders = lithium_orders(model, start.atoms, between, n_orders=n_orders, settings=settings) if between else []
    empty = start.atoms[start.atoms.numbers != 3]
    groups = [(0, [empty]), *zip(between, orders, strict=True), (full, [start.atoms])]
    ends = iter(relax(model, [one for _, group in groups for one in group], **limits))  # type: ignore[list-item]
    rows = [content_of(n, [next(ends) for _ in group]) for n, group in groups]
    return profile_of(rows, lithium_energy=lithium_energy)
