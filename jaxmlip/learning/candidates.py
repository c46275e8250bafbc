"""Which structures a distillation asks its teacher about: made around seeds, each by random numbers of its own."""

import dataclasses
from collections.abc import Sequence

import ase
import numpy as np

from jaxmlip.config import ConfigError, Settings
from jaxmlip.learning.structures import delithiated, is_sound, metals_of, rattled, strained, swapped

_TRIES = 5  # at a sound structure, before a seed is given up


@dataclasses.dataclass(frozen=True)
class Around(Settings):
    """How many structures are made around the seeds, and how."""

    number: int = 1200
    """Of structures."""
    rattled: float = 2.0
    """Share of those with atoms displaced at random, relative to the shares of the other kinds."""
    strained: float = 1.0
    """Share of those with a strained cell."""
    swapped: float = 4.0
    """Share of those with metals replaced by others of the seeds, and cations shuffled."""
    delithiated: float = 1.0
    """Share of those with a part of their lithium (or sodium, potassium) taken out."""
    largest_rattle: float = 0.15
    """Å; widths of displacements are drawn up to here."""
    largest_strain: float = 0.05
    """Components of strains are drawn up to here."""
    max_atoms: int = 64
    """Larger seeds are left alone."""
    seed: int = 0
    """Of all that is drawn."""

    def __post_init__(self) -> None:
        """Refuses what cannot be made."""
        super().__post_init__()
        shares = self.shares
        if min(shares) < 0 or not any(shares):
            raise ConfigError(f"shares of kinds must not be negative, nor all zero: got {dict(zip(KINDS, shares))}")
        if self.number < 0 or min(self.largest_rattle, self.largest_strain) <= 0:
            raise ConfigError("number must not be negative, largest_rattle and largest_strain must be positive")

    @property
    def shares(self) -> tuple[float, ...]:
        """In the order of `KINDS`."""
        return tuple(float(getattr(self, kind)) for kind in KINDS)


KINDS = ("rattled", "strained", "swapped", "delithiated")


def around(seeds: Sequence[ase.Atoms], settings: Around) -> list[ase.Atoms]:
    """Up to ``settings.number`` new structures, their kind in ``info["kind"]``, the number of their seed in ``seed``.

    The k-th depends on the seeds, the settings and k alone. A structure whose atoms come too near is drawn again some
    times, then left out.

    >>> cell = ase.Atoms("LiNiO2", np.eye(4)[:, :3] * 2 + np.arange(4)[:, None] * 0.1, cell=[4, 4, 4], pbc=True)
    >>> {one.info["kind"] for one in around([cell], Around(number=20))} <= set(KINDS)
    True

    Raises:
        ValueError: no seed is small enough.
    """
    usable = [k for k, seed in enumerate(seeds) if len(seed) <= settings.max_atoms]
    if not usable:
        raise ValueError(f"none of the {len(seeds)} seeds has at most max_atoms = {settings.max_atoms} atoms")
    metals = metals_of(seeds)
    found = []
    for number in range(settings.number):
        rng = np.random.default_rng([settings.seed, number])
        one = _one(seeds, usable, settings, metals, rng)
        found += [] if one is None else [one]
    return found


def _one(
    seeds: Sequence[ase.Atoms], usable: list[int], settings: Around, metals: tuple[str, ...], rng: np.random.Generator
) -> ase.Atoms | None:
    weights = np.array(settings.shares) / sum(settings.shares)
    for _ in range(_TRIES):
        kind, k = str(rng.choice(KINDS, p=weights)), int(rng.choice(usable))
        seed = seeds[k]
        made = {
            "rattled": lambda seed=seed: rattled(seed, rng, largest=settings.largest_rattle),
            "strained": lambda seed=seed: strained(seed, rng, largest=settings.largest_strain),
            "swapped": lambda seed=seed: swapped(seed, rng, metals=metals),
            "delithiated": lambda seed=seed: delithiated(seed, rng),
        }[kind]()
        if is_sound(made):
            made.info.update(kind=kind, seed=k)
            return made
    return None
