"""Weights of single structures and of groups of them: one meaning in every method of fitting.

Each residual of a structure is multiplied by √u before it is squared, u the product of what the structure names
(`jaxmlip.data.weights`) and of the weight of its group. Where the structure names a sigma, that stands in place of the
settings: with σ of the settings, 1/weight or noise, the residual is multiplied by σ(settings)/σ(structure) as well.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.config import NotNegative, Settings, unknown_name
from jaxmlip.data.labels import DataWarning, is_converged
from jaxmlip.data.weights import frame_sigmas, frame_weights, unknown_weights
from jaxmlip.potentials.offsets import is_isolated, isolated_energies

_KINDS = ("energy", "forces", "stress")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StructureWeights(Settings):
    """Settings that every fit has of the structures it gets."""

    group_key: str | None = None
    """Key of info that names a structure's group, such as config_type: groups can be weighted, and stay together in
    folds. None: config_type, where group_weights are given."""
    group_weights: dict[str, NotNegative] = dataclasses.field(default_factory=dict, hash=False)
    """Factors of the squared residuals of a group, as NAME, or as NAME.energy, NAME.forces and NAME.stress; others keep
    1. Structures that name weights of their own (weight, energy_weight, energy_sigma, …) have these as well."""
    isolated_name: str = "isolated_atom"
    """Value of config_type that marks the single atoms whose energies offsets="isolated" takes; they are not fitted."""
    unconverged: bool = False
    """Also fit structures whose electronic loop did not converge (info converged=False)."""

    @property
    def groups_of(self) -> str | None:
        """The key that names groups."""
        return self.group_key or ("config_type" if self.group_weights else None)


def residual_factors(
    atoms: Sequence[ase.Atoms], settings: Any, sigmas: Callable[[ase.Atoms], tuple[float, float, float]]
) -> Float[np.ndarray, "n_structures 3"]:
    """What multiplies the residuals of energy, forces and stress of each structure.

    Args:
        atoms: the structures.
        settings: of the fit.
        sigmas: the standard deviations that the settings mean for a structure: of its energy in eV, forces in eV/Å and
            volume × stress in eV.

    Raises:
        ValueError: a weight that is none, with the structure; or a weighted group that does not exist.
    """
    _check_names(atoms, settings)
    _warn_of_unknown(atoms)
    result = np.ones((len(atoms), 3))
    for k, frame in enumerate(atoms):
        try:
            weights, own = frame_weights(frame), frame_sigmas(frame)
        except ValueError as error:
            raise ValueError(f"structure {k} ({frame.get_chemical_formula()}): {error}") from None
        result[k] = np.sqrt(np.array(weights) * _group_weights(frame, settings))
        if any(value is not None for value in own):
            usual = sigmas(frame)
            result[k] *= [1.0 if mine is None else usual[i] / mine for i, mine in enumerate(own)]
    return result


def converged(atoms: Sequence[ase.Atoms], settings: Any) -> list[ase.Atoms]:
    """The structures without those whose electronic loop did not converge, unless the settings keep them.

    Raises:
        ValueError: none is left.
    """
    kept = [frame for frame in atoms if settings.unconverged or is_converged(frame)]
    if len(kept) == len(atoms):
        return kept
    n_bad = len(atoms) - len(kept)
    text = f"{n_bad} of {len(atoms)} structures are of calculations whose electronic loop did not converge"
    if not kept:
        raise ValueError(f"{text}: nothing to fit; unconverged=True fits them nevertheless")
    warnings.warn(f"{text}: left out of the fit (unconverged=True keeps them)", DataWarning, stacklevel=3)
    return kept


def with_isolated(atoms: list[ase.Atoms], settings: Any) -> tuple[list[ase.Atoms], Any]:
    """The structures to fit and the settings, once ``offsets="isolated"`` has become energies by element.

    Raises:
        ValueError: no isolated atoms.
    """
    n_isolated = sum(is_isolated(frame, settings.isolated_name) for frame in atoms)
    if settings.offsets != "isolated":
        if n_isolated and settings.offsets == "fit":
            text = (
                f"{n_isolated} isolated atoms are fitted like other structures; offsets='isolated' takes their energies"
            )
            warnings.warn(text, DataWarning, stacklevel=3)
        return atoms, settings
    offsets = isolated_energies(atoms, settings.isolated_name)
    kept = [frame for frame in atoms if not is_isolated(frame, settings.isolated_name)]
    return kept, dataclasses.replace(settings, offsets=offsets)


def _group_weights(frame: ase.Atoms, settings: Any) -> np.ndarray:
    if not settings.group_weights:
        return np.ones(3)
    name = str(frame.info.get(settings.groups_of))
    common = settings.group_weights.get(name, 1.0)
    return np.array([common * settings.group_weights.get(f"{name}.{kind}", 1.0) for kind in _KINDS])


def _warn_of_unknown(atoms: Sequence[ase.Atoms]) -> None:
    unknown = {name for frame in atoms for name in unknown_weights(frame)}
    if unknown:
        text = f"{', '.join(sorted(unknown))} of the structures look like weights but have no known meaning: not used"
        warnings.warn(f"{text} (weight, energy_weight, energy_sigma, … are)", DataWarning, stacklevel=4)


def _check_names(atoms: Sequence[ase.Atoms], settings: Any) -> None:
    if not settings.group_weights:
        return
    present = {str(frame.info.get(settings.groups_of)) for frame in atoms}
    known = present | {f"{name}.{kind}" for name in present for kind in _KINDS}
    for name in settings.group_weights:
        if name not in known:
            raise ValueError(unknown_name(f"{settings.groups_of}", name, sorted(present)))
