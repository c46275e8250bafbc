"""Ways from a model to new structures: a table of functions ``(model, starts, exploring, rng) -> structures``.

An explorer of one's own is such a function in any module that can be imported, named by its path. What it gives may
carry ``info["replica"]``, the number of the start it came from.

References:
    Metropolis et al., J. Chem. Phys. 21, 1087 (1953): swaps of cations.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ase
import numpy as np

from jaxmlip.config import ConfigError, Count, Positive, Settings, from_mapping, unknown_name
from jaxmlip.data.labels import labels
from jaxmlip.learning import exploration
from jaxmlip.learning.active.settings import Explorer
from jaxmlip.learning.active.worker import imported
from jaxmlip.learning.exploration import Exploration, Watch, labelled
from jaxmlip.learning.structures import (
    ANIONS,
    bare,
    delithiated,
    is_sound,
    metals_of,
    moved_layers,
    rattled,
    strained,
    swapped,
)
from jaxmlip.potentials.model import Model
from jaxmlip.simulate.relax import Relaxation, relax
from jaxmlip.units import BOLTZMANN


class Exploring(NamedTuple):
    """What an explorer is told."""

    options: Any
    """Settings of its kind; of a function of one's own the plain table of the TOML file."""
    inside: Watch
    """Tells which of some structures a replica may go on from: those below the hard limit."""


Function = Callable[[Model, Sequence[ase.Atoms], Exploring, np.random.Generator], list[ase.Atoms]]


@dataclasses.dataclass(frozen=True)
class Made(Settings):
    """Structures made from the starts, without a look at the model."""

    copies: Count = 4
    """Made from each start."""
    largest: Positive = 0.05
    """Of strained cells: components of the strain are drawn up to here."""
    largest_rattle: Positive = 0.15
    """Å; of rattled structures: widths of displacements are drawn up to here."""
    largest_shift: Positive = 1.0
    """Å; of layers: shifts against each other are drawn up to here."""


@dataclasses.dataclass(frozen=True)
class MonteCarlo(Settings):
    """Swaps of two unlike cations, accepted by the model's energies."""

    temperatures: tuple[float, ...] = (600.0, 1500.0)
    """K; one is drawn for each start."""
    n_steps: Count = 40
    """Swaps that are tried."""
    snapshots: Count = 4
    """Kept of each replica, evenly spaced."""


def dynamics(
    model: Model, starts: Sequence[ase.Atoms], exploring: Exploring, rng: np.random.Generator
) -> list[ase.Atoms]:
    """Snapshots of Langevin dynamics, replicas side by side, at temperatures and pressures drawn for each."""
    return exploration.dynamics(model, starts, _seeded(exploring.options, rng), watch=exploring.inside)


def relaxations(
    model: Model, starts: Sequence[ase.Atoms], exploring: Exploring, rng: np.random.Generator
) -> list[ase.Atoms]:
    """Structures on the way to a minimum, cells fixed."""
    return exploration.relaxations(model, starts, _seeded(exploring.options, rng), watch=exploring.inside)


def relaxed(
    model: Model, starts: Sequence[ase.Atoms], exploring: Exploring, rng: np.random.Generator
) -> list[ase.Atoms]:
    """Where relaxations with their cells end, as those of a voltage do; not those that ran away."""
    found = relax(model, starts, exploring.options)
    return [_numbered(one.atoms, k) for k, one in enumerate(found) if np.isfinite(one.energy) or one.converged]


def monte_carlo(
    model: Model, starts: Sequence[ase.Atoms], exploring: Exploring, rng: np.random.Generator
) -> list[ase.Atoms]:
    """Snapshots of swaps of two unlike cations, accepted with min(1, exp(−ΔE/kT)); a replica outside ends."""
    options: MonteCarlo = exploring.options
    kT = [float(rng.choice(options.temperatures)) * BOLTZMANN for _ in starts]
    alive = {k: bare(start) for k, start in enumerate(starts) if len(set(_cations(start)[1])) > 1}
    energy = _energies(model, alive)
    kept: list[ase.Atoms] = []
    for step in range(1, options.n_steps + 1):
        tried = {k: _with_swap(frame, rng) for k, frame in alive.items()}
        new = _energies(model, tried)
        for k in list(alive):
            if rng.random() < np.exp(min(0.0, (energy[k] - new[k]) / kT[k])):
                alive[k], energy[k] = tried[k], new[k]
        if alive and step % max(1, options.n_steps // options.snapshots) == 0:
            seen = {k: _numbered(frame, k) for k, frame in alive.items()}
            kept += seen.values()
            goes_on = exploring.inside(list(seen.values()))
            alive = {k: alive[k] for k, good in zip(seen, goes_on, strict=True) if good}
    return kept


def _made(make: Callable[[ase.Atoms, Made, np.random.Generator, tuple[str, ...]], ase.Atoms | None]) -> Function:
    def explorer(
        model: Model, starts: Sequence[ase.Atoms], exploring: Exploring, rng: np.random.Generator
    ) -> list[ase.Atoms]:
        metals = metals_of(starts)
        pairs = [(k, start) for k, start in enumerate(starts) for _ in range(exploring.options.copies)]
        made = [(k, make(start, exploring.options, rng, metals)) for k, start in pairs]
        return [_numbered(one, k) for k, one in made if one is not None]

    return explorer


class Kind(NamedTuple):
    """A built-in explorer and its settings."""

    function: Function
    options: type


EXPLORERS: Mapping[str, Kind] = {
    "dynamics": Kind(dynamics, Exploration),
    "relaxations": Kind(relaxations, Exploration),
    "relaxed": Kind(relaxed, Relaxation),
    "monte-carlo": Kind(monte_carlo, MonteCarlo),
    "rattled": Kind(_made(lambda start, o, rng, metals: rattled(start, rng, largest=o.largest_rattle)), Made),
    "strained": Kind(_made(lambda start, o, rng, metals: strained(start, rng, largest=o.largest)), Made),
    "swapped": Kind(_made(lambda start, o, rng, metals: swapped(start, rng, metals=metals)), Made),
    "layers": Kind(_made(lambda start, o, rng, metals: moved_layers(start, rng, largest=o.largest_shift)), Made),
    "delithiated": Kind(_made(lambda start, o, rng, metals: delithiated(start, rng)), Made),
}
"""Explorers by name."""


def explorer(settings: Explorer) -> tuple[Function, Any]:
    """The function of an explorer and its options as it takes them.

    >>> explorer(Explorer("dynamics", options={"n_steps": 50}))[1].n_steps
    50

    Raises:
        ConfigError: no such explorer, function or option.
    """
    if "." in settings.kind or ":" in settings.kind:
        return imported(settings.kind, "explorer"), dict(settings.options)
    if settings.kind not in EXPLORERS:
        raise ConfigError(f"{unknown_name('explorer', settings.kind, EXPLORERS)}, or the import path of a function")
    kind = EXPLORERS[settings.kind]
    return kind.function, from_mapping(kind.options, settings.options, where=f"options of {settings.kind}")


def _seeded(options: Exploration, rng: np.random.Generator) -> Exploration:
    return dataclasses.replace(options, seed=int(rng.integers(2**31)))


def _numbered(atoms: ase.Atoms, replica: int) -> ase.Atoms:
    found = bare(atoms)
    found.info["replica"] = replica
    return found


def _cations(atoms: ase.Atoms) -> tuple[np.ndarray, list[str]]:
    """Places and symbols of the atoms that are no anions."""
    places = np.flatnonzero(~np.isin(atoms.symbols, ANIONS))
    return places, [str(atoms.symbols[k]) for k in places]


def _with_swap(atoms: ase.Atoms, rng: np.random.Generator) -> ase.Atoms:
    places, symbols = _cations(atoms)
    first = int(rng.integers(len(places)))
    others = [place for place, symbol in zip(places, symbols, strict=True) if symbol != symbols[first]]
    found = bare(atoms)
    pair = [int(places[first]), int(rng.choice(others))]
    found.positions[pair] = found.positions[pair[::-1]]
    return found


def _energies(model: Model, frames: Mapping[int, ase.Atoms]) -> dict[int, float]:
    """In eV; infinite where atoms came too near, or the model has no number."""
    sound = {k: frame for k, frame in frames.items() if is_sound(frame)}
    told = labelled(model, list(sound.values())) if sound else []
    energies = {k: labels(frame).energy for k, frame in zip(sound, told, strict=True)}
    return {k: float("inf") if energies.get(k) is None else float(energies[k] or 0.0) for k in frames}
