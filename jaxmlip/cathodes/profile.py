"""Voltage over lithium content: orderings of lithium and vacancies, their convex hull, and what a cell can store.

Between two neighbouring stable contents the voltage is constant,

    V = −[E(x₂) − E(x₁) − (x₂ − x₁) E(Li)] / (x₂ − x₁),

x counting lithium atoms of the same host. The hull and the pairs are pymatgen's (``InsertionElectrode``).

References:
    Aydinol et al., Phys. Rev. B 56, 1354 (1997); Van der Ven et al., Phys. Rev. B 58, 2975 (1998).
"""

from collections.abc import Sequence
from typing import NamedTuple

import ase
import numpy as np
from matplotlib.figure import Figure

from jaxmlip.evaluate import style
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.relax import Relaxed, relax
from jaxmlip.units import LITHIUM_BCC

_IMPOSSIBLE = 20.0  # V; no electrode has it, and energies on two zeros are hundreds of volts apart


class Content(NamedTuple):
    """One lithium content of the host."""

    lithium: int
    """Atoms in the cell."""
    energy: float | None
    """eV; the lowest of the orderings that relaxed to a minimum."""
    above_hull: float | None
    """eV per cell."""
    n_tried: int
    """Orderings that were relaxed."""
    problems: tuple[str, ...]
    """Why orderings gave no energy."""
    atoms: ase.Atoms | None
    """Of that ordering, relaxed."""


class Plateau(NamedTuple):
    """A step of the voltage curve, between two stable contents (atoms of lithium in the cell)."""

    low: int
    high: int
    voltage: float  # V


class VoltageProfile(NamedTuple):
    """What `voltage_profile` found; capacities are per mass of the fully lithiated cell."""

    contents: list[Content]
    plateaus: list[Plateau]
    """From the most delithiated on: falling voltages."""
    average_voltage: float  # V
    capacity: float  # mAh/g
    specific_energy: float  # Wh/kg


def voltage_profile(
    model: Model,
    host: ase.Atoms,
    *,
    contents: Sequence[int] | None = None,
    n_orderings: int = 4,
    lithium_energy: float = LITHIUM_BCC,
    seed: int = 0,
) -> VoltageProfile:
    """Voltages of ``host``, fully lithiated, over its lithium content; all cells relaxed side by side.

    Of each content up to ``n_orderings`` random arrangements are tried (all that there are, where they are few) and
    the lowest minimum counts, so the hull is an upper bound.

    >>> from jaxmlip.cathodes import layered
    >>> [len(one) for one in orderings(layered("Co").repeat((2, 1, 1)), 1, 10, 0)]  # either of two may stay
    [7, 7]

    Args:
        model: a potential with its parameters.
        host: with all its lithium.
        contents: numbers of lithium atoms that are tried; None: all from none to full. None and full are added.
        n_orderings: of each content.
        lithium_energy: eV per atom of metallic lithium, on the energy scale of the model's training data.
        seed: of the arrangements.

    Raises:
        ValueError: a host without lithium, contents that it cannot have, or no two contents that relaxed.
    """
    full = int(np.sum(host.symbols == "Li"))
    if not full:
        raise ValueError(f"{host.get_chemical_formula()} holds no lithium: give the fully lithiated host")
    wanted = sorted({0, full, *(range(full + 1) if contents is None else contents)})
    if wanted[0] < 0 or wanted[-1] > full:
        raise ValueError(f"contents must lie in 0 … {full}, the lithium atoms of the host; got {contents}")
    starts = [(n, atoms) for n in wanted for atoms in orderings(host, n, n_orderings, seed)]
    found = relax(model, [atoms for _, atoms in starts])
    rows = [content_of(n, [end for (m, _), end in zip(starts, found, strict=True) if m == n]) for n in wanted]
    return profile_of(rows, lithium_energy=lithium_energy)


def orderings(host: ase.Atoms, n_lithium: int, n: int, seed: int) -> list[ase.Atoms]:
    """Up to ``n`` different arrangements of ``n_lithium`` atoms on the lithium sites of ``host``."""
    sites = np.flatnonzero(host.symbols == "Li")
    rng = np.random.default_rng([seed, n_lithium])
    chosen: dict[tuple[int, ...], None] = {}
    for _ in range(50 * n):
        kept = rng.choice(len(sites), n_lithium, replace=False)
        chosen.setdefault(tuple(sorted(kept.tolist())))
        if len(chosen) == n:
            break
    out = []
    for kept in chosen:
        stays = np.ones(len(host), bool)
        stays[np.delete(sites, list(kept))] = False
        out.append(host[stays])
    return out


def profile_of(contents: Sequence[Content], *, lithium_energy: float = LITHIUM_BCC) -> VoltageProfile:
    """Hull, plateaus and capacities of contents whose energies are known.

    Raises:
        ValueError: fewer than two have an energy, or the ends (no and all lithium) are not among them.
    """
    from pymatgen.apps.battery.insertion_battery import InsertionElectrode
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry
    from pymatgen.io.ase import AseAtomsAdaptor

    known = [one for one in contents if one.energy is not None and one.atoms is not None]
    if len(known) < 2 or known[0].lithium != contents[0].lithium or known[-1].lithium != contents[-1].lithium:
        reasons = "; ".join(dict.fromkeys(reason for one in contents for reason in one.problems))
        raise ValueError(f"the empty and the full host must both relax to minima: {reasons or 'no energies'}")
    structures = [AseAtomsAdaptor.get_structure(one.atoms) for one in known]  # type: ignore[arg-type]
    energies = _above_ends(known, lithium_energy)
    entries = [ComputedStructureEntry(at, energy) for at, energy in zip(structures, energies, strict=True)]
    electrode = InsertionElectrode.from_entries(entries, ComputedEntry("Li", 0.0))
    plateaus = [_plateau(pair) for pair in electrode.voltage_pairs]
    hull = _hull(known, plateaus)
    rows = [one._replace(above_hull=hull.get(one.lithium)) for one in contents]
    numbers = (electrode.get_average_voltage(), electrode.get_capacity_grav(), electrode.get_specific_energy())
    return VoltageProfile(rows, sorted(plateaus), *map(float, numbers))


def _above_ends(known: Sequence[Content], lithium_energy: float) -> list[float]:
    """Energies from the empty host and metallic lithium, eV: voltages do not depend on the zero of each element.

    pymatgen's phase diagram does: it takes energies of some eV an atom, as VASP's are, for granted.

    Raises:
        ValueError: no voltage of this host, so that ``lithium_energy`` is on another zero.
    """
    first, last = known[0], known[-1]
    energies = [
        float(one.energy or 0.0) - float(first.energy or 0.0) - (one.lithium - first.lithium) * lithium_energy
        for one in known
    ]
    mean = -energies[-1] / (last.lithium - first.lithium)
    if not np.isfinite(mean) or abs(mean) > _IMPOSSIBLE:
        raise ValueError(
            f"an average voltage of {mean:.4g} V: lithium_energy={lithium_energy} eV is not on the energy scale of the "
            "model; give the energy of an atom of metallic lithium from the same kind of calculation as its data"
        )
    return energies


def content_of(n: int, ends: Sequence[Relaxed]) -> Content:
    """The row of ``n`` lithium atoms: the lowest of its arrangements that relaxed to a minimum.

    >>> content_of(3, []).n_tried
    0
    """
    good = [end for end in ends if end.converged]
    problems = tuple(end.problem for end in ends if not end.converged)
    if not good:
        return Content(n, None, None, len(ends), problems, None)
    best = min(good, key=lambda end: end.energy)
    return Content(n, best.energy, None, len(ends), problems, best.atoms)


def _plateau(pair) -> Plateau:
    low, high = (round(entry.composition["Li"]) for entry in (pair.entry_charge, pair.entry_discharge))
    return Plateau(low, high, float(pair.voltage))


def _hull(known: Sequence[Content], plateaus: Sequence[Plateau]) -> dict[int, float]:
    """Energy of each content above the straight lines between the stable ones."""
    stable = sorted({p.low for p in plateaus} | {p.high for p in plateaus})
    energies = {one.lithium: float(one.energy or 0.0) for one in known}
    line = np.interp([one.lithium for one in known], stable, [energies[n] for n in stable])
    return {one.lithium: energies[one.lithium] - float(value) for one, value in zip(known, line, strict=True)}


@style.styled
def voltage_profile_figure(profiles: dict[str, VoltageProfile]) -> Figure:
    """Voltage against the share of lithium in the host, one staircase a model; right: energies above the hull.

    Not run here, the profile takes a minute:

    >>> voltage_profile_figure({"mtp": voltage_profile(model, layered("Co"))}).savefig("profile.png")  # doctest: +SKIP
    """
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, profile in profiles.items():
        full = profile.contents[-1].lithium
        x = [n / full for p in profile.plateaus for n in (p.low, p.high)]
        left.plot(x, [p.voltage for p in profile.plateaus for _ in range(2)], color=style.color(name),
                  label=style.label(name))  # fmt: skip
        points = [(one.lithium / full, one.above_hull) for one in profile.contents if one.above_hull is not None]
        right.plot(*zip(*points, strict=True), "o", color=style.color(name))
    left.set(xlabel="lithium in the host", ylabel="voltage against Li (V)", xlim=(0, 1))
    right.set(xlabel="lithium in the host", ylabel="energy above the hull (eV per cell)")
    left.legend()
    return figure
