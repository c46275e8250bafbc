"""Weighted rows of a linear least-squares problem: one assembly for least squares, Gaussian processes, Gauss–Newton.

Each label is one equation, row · coefficients = target, multiplied by 1/σ: the larger the multiplier, the more its
residual counts. Rows without a label are zero, so that shapes do not depend on the data; NumPy arrays stay NumPy's.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmlip.graph.batch import Graph, GraphLabels
from jaxmlip.graph.derivatives import voigt


class Multipliers(NamedTuple):
    """What the residuals of a batch are multiplied by, before they are squared; weights of structures included."""

    energy: Float[Any, " n_graphs"]
    """Of total energies, 1/eV."""
    forces: Float[Any, " n_atoms"]
    """1/(eV/Å)."""
    stress: Float[Any, " n_graphs"]
    """Of stresses, 1/(eV/Å³), or of virials, 1/eV."""


class Rows(NamedTuple):
    """Unweighted rows of a batch, by the columns of the problem: a row times the coefficients is the quantity."""

    energy: Float[Any, "n_graphs n_columns"]
    forces: Float[Any, "n_atoms 3 n_columns"]
    stress: Float[Any, "n_graphs 3 3 n_stress_columns"]
    """Of stresses or of virials; no columns: they are not fitted."""


class WeightedRows(NamedTuple):
    """min ‖matrix · coefficients − target‖²: all energies, then forces by atom, then six components a stress."""

    matrix: Float[Any, "n_residuals n_columns"]
    target: Float[Any, " n_residuals"]
    multiplier: Float[Any, " n_residuals"]
    """Zero where there is no label."""
    structure: Int[Any, " n_residuals"]
    """Of the batch."""


def weighted_rows(rows: Rows, labels: GraphLabels, graph: Graph, multipliers: Multipliers) -> WeightedRows:
    """The equations of a batch; energies of atoms that are not fitted are subtracted from ``labels`` before.

    >>> import jaxmlip
    >>> from jaxmlip.graph import batches
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=3.0, twojmax=1)
    >>> (one,) = batches(jaxmlip.datasets.load("mo", split="test")[:1], potential.config)
    >>> n_graphs, n_atoms = one.graph.n_graphs, one.graph.n_atoms
    >>> rows = Rows(np.ones((n_graphs, 2)), np.ones((n_atoms, 3, 2)), np.ones((n_graphs, 3, 3, 0)))
    >>> found = weighted_rows(rows, one.labels, one.graph, Multipliers(np.ones(n_graphs), np.ones(n_atoms), None))
    >>> found.matrix.shape == (n_graphs + 3 * n_atoms, 2)
    True

    Args:
        rows: by the columns of the problem.
        labels: what they shall be; of virials where ``rows`` has these.
        graph: the batch.
        multipliers: those of labels that are missing do not count.
    """
    xp: Any = np if isinstance(rows.energy, np.ndarray) else jnp
    n_columns, with_stress = rows.energy.shape[-1], rows.stress.shape[-1] > 0
    energy = xp.where(labels.has_energy, multipliers.energy, 0)
    forces = xp.repeat(xp.where(labels.has_forces, multipliers.forces, 0), 3)
    factors, matrices = [energy, forces], [rows.energy, rows.forces.reshape(-1, n_columns)]
    targets = [labels.energy, labels.forces.reshape(-1)]
    owners = [xp.arange(graph.n_graphs, dtype=np.int32), xp.repeat(graph.atom_graph, 3)]
    if with_stress:
        factors.append(xp.repeat(xp.where(labels.has_stress, multipliers.stress, 0), 6))
        matrices.append(voigt(rows.stress).reshape(-1, n_columns))
        targets.append(voigt(labels.stress).reshape(-1))
        owners.append(xp.repeat(owners[0], 6))
    factor = xp.concatenate(factors)
    return WeightedRows(
        factor[:, None] * xp.concatenate(matrices), factor * xp.concatenate(targets), factor, xp.concatenate(owners)
    )
