"""From labelled structures to a `Model`: one `fit` for every family, with the method that suits it."""

from collections.abc import Sequence

import ase

from jaxmlip.fitting.linear import History, LinearFit, fit_linear
from jaxmlip.potentials.base import Model, Params, Potential


def fit(
    potential: Potential,
    atoms: Sequence[ase.Atoms],
    *,
    settings: LinearFit | None = None,
    params: Params | None = None,
    show_progress: bool = False,
) -> tuple[Model, History]:
    """Parameters of ``potential`` from the labels of ``atoms``: energies in eV, forces in eV/Å, stresses in eV/Å³.

    >>> import jaxmlip
    >>> potential = jaxmlip.build("snap", species=("Mo",), cutoff=4.0, twojmax=2)
    >>> model, history = jaxmlip.fit(potential, jaxmlip.datasets.load("mo", split="test")[:3])
    >>> history.summary["n_columns"]
    6

    Args:
        potential: from `jaxmlip.build` or a family's factory.
        atoms: structures with labels, as `jaxmlip.read` gives them.
        settings: weights and regularisation; the default suits most data.
        params: where to start: a linear fit keeps what is not linear in them. The default is the family's initial ones.
        show_progress: a progress bar on standard error.

    Returns:
        The fitted model, and a history whose ``summary`` tells the ridge, the condition number and the time.

    Raises:
        ValueError: see `fit_linear`; or the family has no fitting method.
    """
    return fit_linear(potential, atoms, settings=settings, params=params, show_progress=show_progress)


__all__ = ["History", "LinearFit", "fit", "fit_linear"]
