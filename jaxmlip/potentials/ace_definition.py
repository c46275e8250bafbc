"""What an ACE is made of, for every pair of elements and every central element; as text it is part of the settings."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from jaxmlip.descriptors.cluster_functions import Function
from jaxmlip.potentials.ace_embedding import Centre
from jaxmlip.potentials.ace_radial import Bond


class Definition(NamedTuple):
    """The parts of a potential in the order of its species; numbers that are fitted are params instead."""

    bonds: tuple[Bond, ...]  # of species i ≤ j: (0, 0), (0, 1), …, (1, 1), …
    centres: tuple[Centre, ...]
    functions: tuple[Function, ...]  # of all central species together
    members: tuple[tuple[int, ...], ...]  # of each central species: which functions it has
    inner: str = "distance"  # of `jaxmlip.potentials.ace_radial.Inner`

    def bond(self, i: int, j: int) -> Bond:
        """That of two species."""
        return self.bonds[pair_index(i, j, len(self.centres))]

    @property
    def table(self) -> list[list[Bond]]:
        """Bonds by both species."""
        species = range(len(self.centres))
        return [[self.bond(i, j) for j in species] for i in species]

    @property
    def n_basis(self) -> int:
        """Radial functions g_k of a pair, the most of all bonds."""
        return max(bond.n_basis for bond in self.bonds)

    @property
    def n_densities(self) -> int:
        """The most of all central species."""
        return max(centre.n_densities for centre in self.centres)

    @property
    def is_linear(self) -> bool:
        """Whether the energy is linear in the coefficients: one density that is the energy, and no core repulsion."""
        density = all(c.parameters == (1.0, 1.0) and c.core >= c.core_width for c in self.centres)
        return density and self.inner != "zbl" and not any(bond.prefactor for bond in self.bonds)


def pair_index(i: int, j: int, n_species: int) -> int:
    """The place of a pair of species among those with i ≤ j.

    >>> [pair_index(i, j, 2) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))]
    [0, 1, 1, 2]
    """
    i, j = min(i, j), max(i, j)
    return i * n_species - i * (i - 1) // 2 + j - i


def definition_text(definition: Definition) -> str:
    """As the text that `jaxmlip.potentials.ace.ACEConfig.definition` holds: hashed once, compared quickly."""
    return json.dumps(definition, separators=(",", ":"))


@lru_cache(maxsize=64)
def from_text(text: str) -> Definition:
    """The inverse of `definition_text`."""
    bonds, centres, functions, members, inner = json.loads(text)
    return Definition(
        tuple(Bond(*bond) for bond in bonds),
        tuple(Centre(name, tuple(values), *core) for name, values, *core in centres),
        tuple(Function(*map(_tuple, function)) for function in functions),  # type: ignore[arg-type]
        tuple(map(tuple, members)),
        inner,
    )


def _tuple(values: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
