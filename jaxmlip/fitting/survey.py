"""What a fit must know of all its data before it begins, found in one pass that holds a few structures at a time."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxmlip.data.elsewhere import elsewhere, refuse_elsewhere
from jaxmlip.data.labels import labels
from jaxmlip.data.packed import PackedData
from jaxmlip.data.weights import unknown_weights
from jaxmlip.fitting.frame_weights import check_groups, group_of, residual_factor, warn_of_unknown
from jaxmlip.fitting.objective import NOTHING, Weights, count_labels, label_sigmas, weighted_kinds
from jaxmlip.graph.batch import species_index
from jaxmlip.graph.loading import ahead

_PIECE = 512  # structures that one call surveys


class Scales(NamedTuple):
    """What initial parameters depend on of all data."""

    offsets: Float[np.ndarray, " n_species"] | None
    """Energies of atoms, eV, by least squares (`jaxmlip.potentials.offsets.fit_offsets`); None without energies."""
    forces: float
    """Root mean square of their components, eV/Å; 1 without forces."""


class Survey(NamedTuple):
    """Of all structures that are to be fitted."""

    factors: Float[np.ndarray, "n_structures 3"] | None
    """Of the residuals of energy, forces and stress (`jaxmlip.fitting.frame_weights`); None: 1."""
    scales: Scales
    """Of energies and forces."""


class _Part(NamedTuple):
    """Of some structures."""

    factors: list[Float[np.ndarray, "_ 3"]]
    equations: Float[np.ndarray, "_ n_columns"]  # numbers of atoms and energies, reduced to a triangle
    force_squares: float
    counts: Counter[str]  # labels that count, components of forces, energies
    unknown: frozenset[str]  # names that look like weights
    groups: frozenset[str]
    elsewhere: frozenset[str]  # kinds of labels that stand under other names


def survey(data: PackedData, species: Sequence[int | str], weights: Weights, pool: Executor) -> Survey:
    """Check the labels of ``data`` and find what fits need of them; ``pool`` does the work.

    Raises:
        ValueError: as `jaxmlip.fitting.objective.check_labels` and `jaxmlip.fitting.frame_weights.residual_factors`; or
            an element that is not in ``species``.
    """
    pieces = np.array_split(data.records, max(1, -(-len(data) // _PIECE)))
    parts = ahead(pool, partial(_surveyed, data.whole(), [int(z) for z in species], weights), pieces, depth=8)
    found = reduce(_joined, parts)
    for kind in sorted(found.elsewhere):
        refuse_elsewhere(data, [kind])
    if not found.counts["labels"]:
        raise ValueError(NOTHING)
    check_groups(found.groups, weights)
    warn_of_unknown(found.unknown)
    factors = np.concatenate(found.factors)
    offsets = None
    if found.counts["energies"]:
        offsets = np.linalg.lstsq(found.equations[:, :-1], found.equations[:, -1], rcond=None)[0]
    scale = float(np.sqrt(found.force_squares / max(found.counts["components"], 1)))
    return Survey(None if np.all(factors == 1) else factors, Scales(offsets, scale or 1.0))


def _surveyed(source: PackedData, species: Sequence[int], weights: Weights, numbers: Int[np.ndarray, " n"]) -> _Part:
    """Of the structures of these numbers."""
    rows, squares, counts = [], 0.0, Counter()
    unknown, groups, other = set(), set(), set()
    factors = np.ones((len(numbers), 3))
    for k, number in enumerate(numbers):
        frame = source[int(number)]
        given, kinds = labels(frame), np.bincount(species_index(frame.numbers, species), minlength=len(species))
        counts["labels"] += count_labels(frame, weights, number=int(number))
        try:
            factors[k] = residual_factor(frame, weights, partial(label_sigmas, weights))
        except ValueError as error:
            raise ValueError(f"structure {number} ({frame.get_chemical_formula()}): {error}") from None
        if given.energy is not None:
            rows.append([*kinds, given.energy])
        if given.forces is not None:
            squares += float(np.sum(given.forces**2))
            counts["components"] += given.forces.size
        unknown |= set(unknown_weights(frame))
        groups.add(group_of(frame, weights))
        other |= {kind for kind in weighted_kinds(weights) if elsewhere(frame, kind)}
    counts["energies"] = len(rows)
    equations = _triangle(np.array(rows, float).reshape(-1, len(species) + 1))
    return _Part([factors], equations, squares, counts, *map(frozenset, (unknown, groups, other)))


def _joined(one: _Part, other: _Part) -> _Part:
    equations = _triangle(np.concatenate([one.equations, other.equations]))
    sums = (one.force_squares + other.force_squares, one.counts + other.counts)
    names = (mine | its for mine, its in zip(one[4:], other[4:], strict=True))
    one.factors.extend(other.factors)
    return _Part(one.factors, equations, *sums, *names)


def _triangle(rows: Float[np.ndarray, "_ n_columns"]) -> Float[np.ndarray, "_ n_columns"]:
    """At most as many rows as columns, with the same least squares."""
    return rows if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(rows, mode="r"))
