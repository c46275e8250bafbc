"""How files are read, as settings: the same flags and entries of a TOML file wherever data is read."""

from dataclasses import dataclass
from typing import Any

from jaxmlip.config import Settings


@dataclass(frozen=True, kw_only=True)
class ReadOptions(Settings):
    """What files of structures do not say themselves, or say under other names."""

    species: tuple[str, ...] = ()
    """Elements of the types 0, 1, ... of an MLIP .cfg, or 1, 2, ... of a LAMMPS dump, in this order."""
    energy_key: str | None = None
    """Name of the energy in the files, if unusual."""
    forces_key: str | None = None
    """Name of the forces."""
    stress_key: str | None = None
    """Name of the stress; decides where a file has a virial that disagrees."""
    virial_key: str | None = None
    """Name of the virial, -stress times volume in eV; read instead of a stress."""

    @property
    def read_options(self) -> dict[str, Any]:
        """Keyword arguments of `jaxmlip.data.read`; those that are not given are left out.

        >>> ReadOptions(species=("Li",), energy_key="E").read_options
        {'species': ('Li',), 'energy_key': 'E'}
        """
        names = ("species", "energy_key", "forces_key", "stress_key", "virial_key")
        return {name: value for name in names if (value := getattr(self, name))}
