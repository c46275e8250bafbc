"""Lithium in a sampled cathode whose metals stay where they are: content over voltage, and the energy of each site.

At a voltage V against metallic lithium the chemical potential is μ_Li = E(Li) − V (one electron each), so a semi-grand
canonical chain of insertions and removals gives the content x(V), and its fluctuations the slope,

    dx/dV = −β var(N_Li) / n_sites.

Energies are those of unrelaxed sites: voltages of a rigid host, higher than those of a host that relaxes.

References:
    Van der Ven, Aydinol, Ceder, Kresse, Hafner, Phys. Rev. B 58, 2975 (1998): voltage curves from Monte Carlo.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlip.cathodes.disorder.energies import Lattice, all_energies, codes_of, lattice_of
from jaxmlip.cathodes.disorder.moves import replacements, swaps
from jaxmlip.cathodes.disorder.sampling import Chains, Sampling, sample
from jaxmlip.cathodes.disorder.sites import Sites, sites_of
from jaxmlip.cathodes.disorder.statistics import Estimate, estimate
from jaxmlip.cathodes.voltage import LITHIUM_BCC
from jaxmlip.potentials.model import Model
from jaxmlip.units import BOLTZMANN

_MARGIN = 0.25  # V


class VoltageCurve(NamedTuple):
    """Lithium content of the sites that the fully lithiated host has, over voltage."""

    voltages: Float[np.ndarray, " n_voltages"]  # V
    content: Estimate  # [n_voltages], 0 … 1
    slope: Float[np.ndarray, " n_voltages"]  # dx/dV in 1/V, from fluctuations


def lithium_sites(atoms: ase.Atoms) -> Sites:
    """Sites of a lithiated structure whose lithium may leave, all else fixed.

    >>> from jaxmlip.cathodes import layered
    >>> ("Li", "X") in [one.symbols for one in lithium_sites(layered("Co")).sublattices]
    True

    Raises:
        ValueError: no lithium.
    """
    if "Li" not in atoms.get_chemical_symbols():
        raise ValueError(f"{atoms.get_chemical_formula()} holds no lithium that could leave")
    return sites_of(atoms, {"Li": ("Li", "X")})


def voltage_curve(
    model: Model,
    atoms: ase.Atoms,
    *,
    voltages: Sequence[float],
    temperature: float = 300.0,
    lithium_energy: float = LITHIUM_BCC,
    settings: Sampling | None = None,
) -> VoltageCurve:
    """x(V) and dx/dV of a host, one chain a voltage, side by side.

    Not run here, it takes minutes:

    >>> from jaxmlip.cathodes import layered
    >>> curve = voltage_curve(model, layered("Co"), voltages=(3.0, 3.5, 4.0))  # doctest: +SKIP

    Args:
        model: a potential with its parameters.
        atoms: the lithiated structure.
        voltages: V against metallic lithium.
        temperature: K.
        lithium_energy: eV per atom of metallic lithium, on the energy scale of the model's training data.
        settings: of the chains.

    Raises:
        ValueError: no lithium, or what `sample` refuses.
    """
    sites = lithium_sites(atoms)
    part = next(k for k, one in enumerate(sites.sublattices) if "X" in one.symbols)
    held = sites.sublattices[part].sites
    volts = np.asarray(voltages, float)
    moves = [*replacements(sites, "Li", "X"), *swaps(sites)]
    starts = np.tile(atoms.numbers, (len(volts), 1))
    chains = Chains(starts, [temperature] * len(volts), {"Li": (lithium_energy - volts).tolist()}, moves)
    found = sample(model, sites, chains, settings=settings)
    lithium = (found.numbers[:, :, held] == 3).mean(axis=2)
    slope = -lithium.var(axis=0) * len(held) / (BOLTZMANN * temperature)
    # each chain is a condition of its own: its mean and error along the samples
    content = estimate(lithium[:, None, :])
    return VoltageCurve(volts, content, slope)


def voltage_range(
    model: Model, atoms: ase.Atoms, *, n: int = 16, lithium_energy: float = LITHIUM_BCC
) -> Float[np.ndarray, " n"]:
    """Voltages between which a rigid host takes its lithium up, in even steps.

    From just below the voltage at which the first lithium leaves the full host to just above that at which the first
    enters the empty one, or the other way round where lithium ions attract each other.

    >>> from jaxmlip.cathodes import layered
    >>> from jaxmlip.potentials import build
    >>> potential = build("mtp", species=("Li", "Co", "O"), level=2, cutoff=3.0)
    >>> model = Model(potential, potential.init(None, None))  # without any interaction
    >>> voltage_range(model, layered("Co"), n=3, lithium_energy=-2.0).tolist()
    [-2.25, -2.0, -1.75]

    Raises:
        ValueError: no lithium, or an element that the model does not know.
    """
    volts = np.concatenate(_host_changes(model, atoms, (False, True))) + lithium_energy
    return np.linspace(volts.min() - _MARGIN, volts.max() + _MARGIN, n)


def site_voltages(
    model: Model, atoms: ase.Atoms, *, lithium_energy: float = LITHIUM_BCC
) -> Float[np.ndarray, " n_lithium"]:
    """The voltage at which each lithium would leave alone, the others staying: V_i = E(without i) + E(Li) − E.

    Their spread is the width of the slope of x(V) that disorder makes.

    >>> from jaxmlip.cathodes import layered
    >>> from jaxmlip.potentials import build
    >>> potential = build("mtp", species=("Li", "Co", "O"), level=2, cutoff=3.0)
    >>> model = Model(potential, potential.init(None, None))  # without any interaction
    >>> site_voltages(model, layered("Co"), lithium_energy=-2.0).tolist()
    [-2.0]

    Raises:
        ValueError: no lithium, or an element that the model does not know.
    """
    (changes,) = _host_changes(model, atoms, (False,))
    return changes + lithium_energy


def _host_changes(model: Model, atoms: ase.Atoms, empty: tuple[bool, ...]) -> list[Float[np.ndarray, " n_lithium"]]:
    """What `_changes` says of each lithium of ``atoms``, in eV: in the full host, or in the ``empty`` one."""
    sites = lithium_sites(atoms)
    with jax.enable_x64(True):
        lattice = lattice_of(sites, model.potential, "float64")
        codes = jnp.asarray(codes_of(atoms.numbers, model.potential))
        held = jnp.asarray(np.flatnonzero(atoms.numbers == 3))
        return [np.asarray(_changes(model, lattice, codes, held, one)) for one in empty]


@partial(jax.jit, static_argnames="empty")
def _changes(model: Model, lattice: Lattice, codes: Array, held: Array, empty: bool) -> Array:
    """Energy of the host with one lithium fewer, for each of ``held``; in an ``empty`` host minus that of one more."""
    from jaxmlip.cathodes.disorder.sampler import changed_energies

    vacancy = len(model.potential.config.species)
    start = codes.at[held].set(vacancy) if empty else codes
    energies = all_energies(model, lattice, start)
    changes = codes[held[0]] if empty else vacancy

    def change(site: Array) -> Array:
        _, new, old = changed_energies(model, lattice, start.at[site].set(changes), site[None], energies)
        return jnp.sum(new - old)

    found = jax.lax.map(change, held)
    return -found if empty else found
