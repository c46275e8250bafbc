"""Weights of single structures and of groups of them: one meaning in every method of fitting.

Each residual of a structure is multiplied by √u before it is squared, u the product of what the structure names
(`jaxmlip.data.weights`) and of the weight of its group. Where the structure names a sigma, that stands in place of the
settings: with σ of the settings, 1/weight or noise, the residual is multiplied by σ(settings)/σ(structure) as well.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from jaxmlip.config import NotNegative, Settings, unknown_name
from jaxmlip.data.labels import DataWarning, is_converged
from jaxmlip.data.packed import PackedData
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
    check_groups({group_of(frame, settings) for frame in atoms}, settings)
    warn_of_unknown({name for frame in atoms for name in unknown_weights(frame)})
    result = np.ones((len(atoms), 3))
    for k, frame in enumerate(atoms):
        try:
            result[k] = residual_factor(frame, settings, sigmas)
        except ValueError as error:
            raise ValueError(f"structure {k} ({frame.get_chemical_formula()}): {error}") from None
    return result


def residual_factor(
    frame: ase.Atoms, settings: Any, sigmas: Callable[[ase.Atoms], tuple[float, float, float]]
) -> Float[np.ndarray, "3"]:
    """`residual_factors` of one structure, without the checks that need all of them.

    Raises:
        ValueError: a weight that is none.
    """
    own = frame_sigmas(frame)
    result = np.sqrt(np.array(frame_weights(frame)) * _group_weights(frame, settings))
    if any(value is not None for value in own):
        usual = sigmas(frame)
        result *= [1.0 if mine is None else usual[i] / mine for i, mine in enumerate(own)]
    return result


def converged(atoms: Sequence[ase.Atoms], settings: Any) -> Sequence[ase.Atoms]:
    """The structures without those whose electronic loop did not converge, unless the settings keep them.

    Raises:
        ValueError: none is left.
    """
    if settings.unconverged:
        kept = atoms
    elif isinstance(atoms, PackedData):
        kept = atoms.select(np.flatnonzero(atoms.converged))
    else:
        kept = [frame for frame in atoms if is_converged(frame)]
    if len(kept) == len(atoms):
        return kept
    n_bad = len(atoms) - len(kept)
    text = f"{n_bad} of {len(atoms)} structures are of calculations whose electronic loop did not converge"
    if not kept:
        raise ValueError(f"{text}: nothing to fit; unconverged=True fits them nevertheless")
    warnings.warn(f"{text}: left out of the fit (unconverged=True keeps them)", DataWarning, stacklevel=3)
    return kept


def with_isolated(atoms: Sequence[ase.Atoms], settings: Any) -> tuple[Sequence[ase.Atoms], Any]:
    """The structures to fit and the settings, once ``offsets="isolated"`` has become energies by element.

    Raises:
        ValueError: no isolated atoms.
    """
    sizes = atoms.sizes if isinstance(atoms, PackedData) else np.array([len(frame) for frame in atoms])
    single = [(int(k), atoms[int(k)]) for k in np.flatnonzero(sizes == 1)]
    isolated = {k: frame for k, frame in single if is_isolated(frame, settings.isolated_name)}
    if settings.offsets != "isolated":
        if isolated and settings.offsets == "fit":
            text = f"{len(isolated)} isolated atoms are fitted like other structures"
            warnings.warn(f"{text}; offsets='isolated' takes their energies", DataWarning, stacklevel=3)
        return atoms, settings
    offsets = isolated_energies(list(isolated.values()), settings.isolated_name)
    kept = np.delete(np.arange(len(atoms)), list(isolated))
    rest = atoms.select(kept) if isinstance(atoms, PackedData) else [atoms[int(k)] for k in kept]
    return rest, dataclasses.replace(settings, offsets=offsets)


def _group_weights(frame: ase.Atoms, settings: Any) -> np.ndarray:
    if not settings.group_weights:
        return np.ones(3)
    name = group_of(frame, settings)
    common = settings.group_weights.get(name, 1.0)
    return np.array([common * settings.group_weights.get(f"{name}.{kind}", 1.0) for kind in _KINDS])


def group_of(frame: ase.Atoms, settings: Any) -> str:
    """The group by which the settings may weight a structure; empty where they weight none."""
    return str(frame.info.get(settings.groups_of)) if settings.group_weights else ""


def warn_of_unknown(names: AbstractSet[str]) -> None:
    """A `DataWarning` for ``names`` that `jaxmlip.data.weights.unknown_weights` found."""
    if names:
        text = f"{', '.join(sorted(names))} of the structures look like weights but have no known meaning: not used"
        warnings.warn(f"{text} (weight, energy_weight, energy_sigma, … are)", DataWarning, stacklevel=4)


def check_groups(present: AbstractSet[str], settings: Any) -> None:
    """Refuses weights of groups that are not among those ``present``.

    Raises:
        ValueError: naming it.
    """
    known = present | {f"{name}.{kind}" for name in present for kind in _KINDS}
    for name in settings.group_weights:
        if name not in known:
            raise ValueError(unknown_name(f"{settings.groups_of}", name, sorted(present)))
