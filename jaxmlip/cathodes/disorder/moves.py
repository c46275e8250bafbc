"""Moves of the sampler: each takes one site per step from one species to another, all steps together.

A swap is (Li → Mn, Mn → Li), an insertion (X → Li), a table exchange such as Mn + 2 O → Li + 2 F keeps a constraint
(the charge) that no swap can change.

References:
    Xie, Zhong, Barroso-Luque, Ouyang, Ceder, J. Chem. Theory Comput. 19, 7576 (2023): table exchange.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Array, Float, Int

from jaxmlip.cathodes.disorder.sites import Sites

VACANCY = 0  # the atomic number that stands for an empty site


class Step(NamedTuple):
    """One site of a sublattice changes its occupant."""

    sublattice: int
    before: str
    after: str


class Move(NamedTuple):
    """Steps done together; a reversed move has the same weight, which detailed balance asks for."""

    steps: tuple[Step, ...]
    weight: float = 1.0

    @property
    def reverse(self) -> "Move":
        """The way back."""
        return Move(tuple(Step(s.sublattice, s.after, s.before) for s in self.steps), self.weight)


class MoveTable(NamedTuple):
    """Moves as arrays on the device; codes are indices into a potential's species, one more: vacancy, −1: no step."""

    sublattice: Int[Array, "n_moves n_steps"]
    before: Int[Array, "n_moves n_steps"]
    after: Int[Array, "n_moves n_steps"]
    cumulative: Float[Array, " n_moves"]  # probability of this move or an earlier one


def swaps(sites: Sites) -> list[Move]:
    """Swaps of two unlike species within each sublattice: the canonical ensemble.

    >>> from jaxmlip.cathodes.disorder.sites import rocksalt
    >>> [move.steps[0][1:] for move in swaps(rocksalt("Li1.2Mn0.4Ti0.4O2"))]
    [('Li', 'Mn'), ('Li', 'Ti'), ('Mn', 'Ti')]
    """
    return [
        Move((Step(k, one, other), Step(k, other, one)))
        for k, part in enumerate(sites.sublattices)
        for one, other in combinations(part.symbols, 2)
    ]


def replacements(sites: Sites, one: str, other: str) -> list[Move]:
    """Changes of ``one`` into ``other`` and back at any site that allows both: the semi-grand canonical ensemble.

    Lithium against vacancies is insertion and removal.

    >>> from jaxmlip.cathodes.disorder.sites import rocksalt
    >>> len(replacements(rocksalt("Li0.5MnO2"), "Li", "X"))
    2

    Raises:
        ValueError: no sublattice allows both.
    """
    where = [k for k, part in enumerate(sites.sublattices) if {one, other} <= set(part.symbols)]
    if not where or one == other:
        raise ValueError(
            f"no sublattice allows both {one} and {other}: there are {[p.symbols for p in sites.sublattices]}"
        )
    forward = [Move((Step(k, one, other),)) for k in where]
    return [move for pair in zip(forward, (m.reverse for m in forward), strict=True) for move in pair]


def table_exchange(steps: Sequence[Step]) -> list[Move]:
    """A move of several steps and its reverse.

    >>> move, back = table_exchange([Step(0, "Mn", "Li"), Step(1, "O", "F"), Step(1, "O", "F")])
    >>> back.steps[1]
    Step(sublattice=1, before='F', after='O')
    """
    move = Move(tuple(steps))
    return [move, move.reverse]


def move_table(moves: Sequence[Move], sites: Sites, species: Sequence[int]) -> MoveTable:
    """``moves`` for a potential whose species are the atomic numbers ``species``.

    Raises:
        ValueError: no move, a step that its sublattice does not allow, a species that the potential does not know, a
            weight that is not positive, or a move whose reverse is missing or has another weight.
    """
    if not moves:
        raise ValueError("no moves: two species must be able to change places, or one to be replaced")
    _check(moves, sites)
    code = {int(z): k for k, z in enumerate(species)} | {VACANCY: len(species)}
    unknown = [s for move in moves for step in move.steps for s in step[1:] if atomic_numbers[s] not in code]
    if unknown:
        raise ValueError(f"the potential does not know {unknown[0]}: fit one whose species include it")
    shape = (len(moves), max(len(move.steps) for move in moves))
    sublattice, before, after = np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    for m, move in enumerate(moves):
        for k, step in enumerate(move.steps):
            sublattice[m, k] = step.sublattice
            before[m, k], after[m, k] = (code[atomic_numbers[s]] for s in step[1:])
    weights = np.array([move.weight for move in moves])
    return MoveTable(*map(jnp.asarray, (sublattice, before, after, np.cumsum(weights) / weights.sum())))


def _check(moves: Sequence[Move], sites: Sites) -> None:
    weights: dict[tuple[Step, ...], float] = {}
    for move in moves:
        key = tuple(sorted(move.steps))
        weights[key] = weights.get(key, 0.0) + move.weight
        if not (np.isfinite(move.weight) and move.weight > 0 and move.steps):
            raise ValueError(f"a move needs steps and a positive weight, got {move}")
        for step in move.steps:
            allowed = sites.sublattices[step.sublattice].symbols
            if not {step.before, step.after} <= set(allowed) or step.before == step.after:
                raise ValueError(f"{step} is no change between two of the species allowed there: {', '.join(allowed)}")
    for move in moves:
        if not np.isclose(weights.get(tuple(sorted(move.reverse.steps)), 0.0), weights[tuple(sorted(move.steps))]):
            raise ValueError(f"the reverse of {move} is missing or has another weight: detailed balance needs both")
