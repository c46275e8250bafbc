"""A potential attached to a running LAMMPS through ``fix external pf/callback``."""

import ctypes
from collections.abc import Sequence
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxmlip.config import ConfigError
from jaxmlip.graph.neighbors import still_listed
from jaxmlip.potentials.base import cast_params
from jaxmlip.potentials.model import Model, as_model
from jaxmlip.simulate.lammps.evaluation import Evaluated, evaluated
from jaxmlip.simulate.lammps.library import (
    ENERGY_UNITS,
    Atoms,
    atoms_of,
    box_of,
    check_ready,
    communicator,
    local_rank,
)
from jaxmlip.simulate.lammps.surroundings import Reach, Sizes, padded, surroundings, unknown_neighbors

FIX = "jaxmlip"
"""ID of the fix in LAMMPS."""
_ORDER = [0, 1, 2, 5, 4, 3]  # LAMMPS's xx yy zz xy xz yz from Voigt's xx yy zz yz xz xy


def attach(
    lmp: Any,
    model: Model | str | Path,
    elements: Sequence[str],
    *,
    skin: float = 1.0,
    dtype: str = "float64",
    overlay: bool = False,
) -> "Coupling":
    r"""From now on LAMMPS takes energy, forces and virial from ``model``, on all of its ranks.

    To be called on all ranks once the atoms exist, and again after LAMMPS's ``clear``; before fixes that change forces,
    such as ``setforce``. Sets ``pair_style zero``, the skin and the range of ghosts. Energies and virials of atoms are
    there too (``compute pe/atom``, ``stress/atom``, ``heat/flux``). ``run_style respa`` calls no such fix: use verlet.

    >>> from jaxmlip.potentials.zbl import ZBLConfig, zbl
    >>> from jaxmlip.simulate.lammps import start
    >>> potential = zbl(ZBLConfig(species=("Li", "O"), cutoff=2.0))
    >>> lmp = start(["-log", "none", "-screen", "none"])
    >>> lmp.commands_string("units metal\nregion all block 0 9 0 9 0 9\ncreate_box 2 all\nmass * 10.0")
    >>> _ = lmp.create_atoms(2, [1, 2], [1, 2], [1.0, 1.0, 1.0, 1.0, 1.0, 2.2])
    >>> coupling = attach(lmp, Model(potential, potential.init(None, None)), ("Li", "O"))
    >>> lmp.command("run 0")
    >>> bool(lmp.get_thermo("pe") > 1)
    True

    Args:
        lmp: a ``lammps.lammps`` object in metal or real units.
        model: a potential with its parameters, or its file.
        elements: one for each atom type, as after ``pair_coeff * *``.
        skin: Å; in place of LAMMPS's ``neighbor`` command. More renews lists less often and computes more.
        dtype: "float64", or "float32" for speed; forces arrive in LAMMPS in double precision.
        overlay: keep the pair style that is there, and add to it.

    Returns:
        What evaluates the potential; LAMMPS keeps it alive.

    Raises:
        ConfigError: no box, other units, an element that the potential does not know, ``skin`` or ``dtype`` of another
            kind, mpi4py is missing on several ranks.
        ValueError, RuntimeError: from LAMMPS's commands (``run``, ``minimize``, …), on all ranks: atoms overlap, forces
            are not finite, or the range of ghosts has been made too small.
    """
    model = as_model(model)
    if not (np.isfinite(skin) and skin > 0):
        raise ConfigError(f"skin must be a positive number of Å, got {skin}")
    if dtype not in ("float32", "float64"):
        raise ConfigError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
    check_ready(lmp, elements, model.potential.config.symbols)
    config = model.potential.config
    coupling = Coupling(lmp, model, Reach(config.cutoff, skin, config.n_hops, model.potential.local), dtype)
    coupling.species = np.array([config.symbols.index(one) for one in elements])
    if lmp.has_id("fix", FIX):
        lmp.command(f"unfix {FIX}")
    if not overlay:
        lmp.commands_list([f"pair_style zero {config.cutoff!r}", "pair_coeff * *"])
    lmp.command(f"neighbor {skin!r} bin")
    if coupling.comm is not None:
        lmp.command(f"comm_modify cutoff {coupling.reach.ghosts!r}")
    lmp.command(f"fix {FIX} all external pf/callback 1 1")
    lmp.set_fix_external_callback(FIX, coupling)
    _raise_afterwards(lmp)
    return coupling


class Coupling:
    """Evaluates a potential whenever LAMMPS asks for forces; `attach` makes it."""

    def __init__(self, lmp: Any, model: Model, reach: Reach, dtype: str) -> None:
        self.lmp, self.reach, self.dtype = lmp, reach, dtype
        self.comm = communicator(lmp)
        self.unit = ENERGY_UNITS[lmp.extract_global("units")]
        self.species = np.zeros(0, int)
        self.n_lists = 0
        """Lists of neighbours made so far."""
        self.n_shapes = 0
        """Shapes of tables so far: so often a program was compiled, or taken from JAX's cache."""
        devices = jax.local_devices()
        self.device = devices[local_rank(self.comm) % len(devices)]
        self._found: Any = None  # `Surroundings`, from one list to the next
        self._sizes: Any = None  # `Sizes`
        self._listed_by_lammps: Any = None
        self._step = -1
        with self._precision():
            self._model = Model(model.potential, cast_params(model.params, dtype))

    def __call__(self, caller: Any, step: int, n_owned: int, tags: Any, x: Any, forces: np.ndarray) -> None:
        """LAMMPS's callback: fills ``forces`` and sets energies and virials; a failure stops all ranks."""
        del caller, tags, x
        failure, sums = None, np.zeros(8)
        forces[:] = 0
        try:
            found = self._evaluate(step, n_owned)
            self._hand_over(found, forces)
            sums[0], sums[1:7] = found.energies.sum(), found.virials.sum(axis=0)
        except Exception as error:
            failure = error
        if self.comm is not None and (self._step in (-1, step)) and self.lmp.extract_setting("neigh_ago") == 0:
            unknown = self._compare(self.comm)  # the first list of a run; ranks that have failed ask too
            failure = failure or unknown
        self._step, sums[7] = step, failure is not None
        total = sums if self.comm is None else self.comm.allreduce(sums)
        if total[7]:
            self.lmp.jaxmlip_failure = failure or RuntimeError("another rank has failed; its message stands above")
            self.lmp.force_timeout()
            return
        self.lmp.fix_external_set_energy_global(FIX, self.unit * total[0])
        self.lmp.fix_external_set_virial_global(FIX, (self.unit * total[1:7][_ORDER]).tolist())

    def _compare(self, comm: Any) -> Exception | None:
        """Whether the ranks know all atoms around them; all ranks ask together."""
        if not unknown_neighbors(self._found, comm):
            return None
        return ConfigError(
            f"ranks do not know all atoms around them: they must reach {self.reach.ghosts:g} Å; let `comm_modify "
            "cutoff` be at least that, or leave it out after the potential is attached"
        )

    def _evaluate(self, step: int, n_owned: int) -> Evaluated:
        """Arrays of NumPy, in float64, of own atoms."""
        atoms, new_list = atoms_of(self.lmp), self.lmp.extract_setting("neigh_ago") == 0
        if n_owned == 0:
            self._found = None
            nothing: Any = (np.zeros(0), np.zeros((0, 3)), np.zeros((0, 6)), np.array(False))
            return Evaluated(*nothing)
        box = box_of(self.lmp)
        if new_list or self._found is None:
            self._listed_by_lammps = atoms.positions[:n_owned].copy()
            self._list(atoms, box)
        else:
            self._check_moves(atoms)
            here = box._replace(positions=atoms.positions[self._found.points])
            same = np.array_equal(self._found.types, atoms.types)  # fixes of Monte Carlo change them
            if not (same and still_listed(self._found.frame, here, cutoff=self.reach.cutoff, skin=self.reach.skin)):
                self._list(atoms, box)
        while True:
            found = self._on_device(atoms, box)
            if not found.overflow:
                break
            inner = self._sizes.inner
            self._resize(self._sizes._replace(inner=inner + max(2, inner // 8)))
        if not (np.isfinite(found.energies).all() and np.isfinite(found.forces).all()):
            raise RuntimeError(
                f"the potential gives no finite energy or forces at step {step}: either its parameters contain NaN "
                "(check the fit's report), or atoms have come so near that the structure is far from its data"
            )
        return found

    def _list(self, atoms: Atoms, box: Any) -> None:
        """New neighbours."""
        self._found = surroundings(atoms, box, self.reach, self.species, self._sizes)
        self.n_lists += 1
        self._resize(self._found.sizes)
        with self._precision():
            self._tables = jax.tree.map(jnp.asarray, self._found.tables)

    def _resize(self, sizes: Sizes) -> None:
        self.n_shapes += sizes != self._sizes
        self._sizes = sizes

    def _check_moves(self, atoms: Atoms) -> None:
        """LAMMPS must renew its lists, and with them the ghosts, before an atom has moved half of the skin."""
        moved = atoms.positions[: atoms.n_owned] - self._listed_by_lammps
        farthest = float(np.sqrt(np.max(np.sum(moved**2, axis=1), initial=0)))
        if farthest > 0.5 * self.reach.skin + 1e-9:
            raise ConfigError(
                f"an atom moved {farthest:.2f} Å before LAMMPS renewed its neighbours, more than half of the skin of "
                f"{self.reach.skin:g} Å: use `neigh_modify every 1 delay 0 check yes`, give the skin to the potential "
                "and not by a later `neighbor` command, or look for a timestep that is too long"
            )

    def _on_device(self, atoms: Atoms, box: Any) -> Evaluated:
        points, n = self._found.points, atoms.n_owned
        positions = padded(atoms.positions[points], self._sizes.n_points)
        with self._precision():
            found = jax.device_get(
                evaluated(
                    self._model,
                    self._tables,
                    jnp.asarray(positions, self.dtype),
                    jnp.asarray(box.cell, self.dtype),
                    inner=self._sizes.inner,
                )
            )
        of_own: Any = [np.asarray(x[:n], np.float64) for x in found[:3]]
        return Evaluated(*of_own, overflow=found.overflow)

    def _hand_over(self, found: Evaluated, forces: Float[np.ndarray, "n_owned 3"]) -> None:
        """Forces, energies and virials of own atoms to LAMMPS, in its unit."""
        forces[:] = self.unit * found.forces
        if len(found.energies) == 0:
            return
        energies = np.ascontiguousarray(self.unit * found.energies)
        virials = np.ascontiguousarray(self.unit * found.virials[:, _ORDER])
        rows = virials.ctypes.data + virials.strides[0] * np.arange(len(virials), dtype=np.uint64)
        double = ctypes.POINTER(ctypes.c_double)
        name = FIX.encode()
        self.lmp.lib.lammps_fix_external_set_energy_peratom(self.lmp.lmp, name, energies.ctypes.data_as(double))
        self.lmp.lib.lammps_fix_external_set_virial_peratom(
            self.lmp.lmp, name, rows.ctypes.data_as(ctypes.POINTER(double))
        )

    def _precision(self) -> Any:
        stack = ExitStack()
        stack.enter_context(jax.enable_x64(self.dtype == "float64"))
        stack.enter_context(jax.default_device(self.device))
        return stack


def _raise_afterwards(lmp: Any) -> None:
    """A callback cannot raise through LAMMPS: it stops the run, and the command that began the run raises.

    Until then nothing can be said but in attributes of ``lmp``; LAMMPS skips further runs of the same input.
    """
    if hasattr(lmp, "jaxmlip_failure"):
        return
    lmp.jaxmlip_failure = None

    def checked(method: Any) -> Any:
        @wraps(method)
        def command(*args: Any) -> Any:
            result = method(*args)
            failure, lmp.jaxmlip_failure = lmp.jaxmlip_failure, None
            if failure is not None:
                method_of_command("timer timeout off")
                raise failure
            return result

        return command

    method_of_command = lmp.command
    for name in ("command", "commands_list", "commands_string", "file"):
        setattr(lmp, name, checked(getattr(lmp, name)))
