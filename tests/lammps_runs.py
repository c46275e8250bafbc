"""What tests/test_lammps.py runs on one rank and on several: ``mpiexec -n 2 python lammps_runs.py FOLDER``.

Many runs in one process, because a process and its compilations cost more than all of them. The first rank writes what
LAMMPS found into FOLDER/N.npz.
"""

import os
import sys
from pathlib import Path

import ase
import jax
import numpy as np

import jaxmlip
from jaxmlip.simulate.lammps import attach, start

SPECIES = ("Li", "Mn", "O")
MASSES = (6.94, 54.94, 16.0)


def begin(atoms, units="metal"):
    """LAMMPS with ``atoms``; their cell must be in LAMMPS's standard form."""
    lmp = start(["-log", "none", "-screen", "none"])
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = atoms.cell.array.tolist()
    lmp.commands_list(
        [
            f"units {units}",
            "box tilt large",
            f"region cell prism 0 {lx!r} 0 {ly!r} 0 {lz!r} {xy!r} {xz!r} {yz!r}",
            f"create_box {len(SPECIES)} cell",
            *[f"mass {k + 1} {mass}" for k, mass in enumerate(MASSES)],
        ]
    )
    types = [SPECIES.index(symbol) + 1 for symbol in atoms.symbols]
    positions = atoms.positions.ravel().tolist()
    assert lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, positions) == len(atoms)
    lmp.command("thermo_style custom step pe etotal press pxx pyy pzz pyz pxz pxy vol")
    return lmp


def seen(lmp):
    """Energies, forces and pressures, and the structure that they belong to."""
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    (lx, ly, lz) = np.subtract(high, low)
    pressures = [lmp.get_thermo(f"p{name}") for name in ("xx", "yy", "zz", "yz", "xz", "xy")]
    x, f = (np.array(lmp.gather_atoms(name, 1, 3)).reshape(-1, 3) for name in ("x", "f"))
    return {
        "pe": lmp.get_thermo("pe"),
        "etotal": lmp.get_thermo("etotal"),
        "pressure": np.array(pressures),
        "positions": x - low,
        "forces": f,
        "cell": np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]),
    }


def static(atoms, model, units="metal"):
    """One evaluation; energies and virials of atoms must add up to the totals."""
    lmp = begin(atoms, units)
    lmp.commands_list(["compute e all pe/atom", "compute s all stress/atom NULL virial"])
    lmp.commands_list(["compute sum all reduce sum c_e c_s[1] c_s[2] c_s[3] c_s[6] c_s[5] c_s[4]"])
    attach(lmp, model, SPECIES)
    lmp.command("thermo_style custom step pe etotal press pxx pyy pzz pyz pxz pxy vol c_sum[1] c_sum[2]")
    lmp.command("run 0")
    sums = np.array(lmp.numpy.extract_compute("sum", 0, 1))
    return seen(lmp) | {"sums": sums, "volume": lmp.get_thermo("vol")}


def dynamics(atoms, model):
    """NVE of atoms that drift from rank to rank."""
    lmp = begin(atoms)
    coupling = attach(lmp, model, SPECIES, skin=0.5)
    lmp.commands_list(["velocity all create 600 7 dist gaussian loop all", "velocity all set 80 60 40 sum yes"])
    lmp.commands_list(["timestep 0.0005", "fix 1 all nve", "run 0"])
    first = lmp.get_thermo("etotal")
    lmp.command("run 50")
    return seen(lmp) | {"first": first, "lists": coupling.n_lists, "shapes": coupling.n_shapes}


def barostat(atoms, model):
    """NPT of a skewed cell, of all six strains."""
    lmp = begin(atoms)
    attach(lmp, model, SPECIES)
    lmp.commands_list(["velocity all create 300 7 dist gaussian loop all", "timestep 0.001"])
    lmp.command("fix 1 all npt temp 300 300 0.1 tri 0 0 0.3")
    lmp.command("run 15")
    lmp.commands_list(["velocity all set 0 0 0", "unfix 1", "run 0"])  # so that pressures are those of the potential
    return seen(lmp)


def minimized(atoms, model):
    """Positions and cell."""
    lmp = begin(atoms)
    attach(lmp, model, SPECIES)
    lmp.commands_list(["fix 1 all box/relax tri 0.0", "run 0"])
    first = lmp.get_thermo("pe")
    lmp.command("minimize 0 1e-6 8 20")
    return seen(lmp) | {"first": first}


def restarted(atoms, model, folder):
    """Twenty steps at once, and 10 + 10 with a file between."""
    ends = []
    file = folder / f"{os.environ.get('PMI_SIZE', 1)}.restart"
    lmp = begin(atoms)
    attach(lmp, model, SPECIES)
    lmp.commands_list(["velocity all create 300 7 dist gaussian loop all", "fix 1 all nve", "run 10"])
    lmp.commands_list([f"write_restart {file}", "run 10"])
    ends.append(seen(lmp)["positions"])
    lmp.close()
    lmp = start(["-log", "none", "-screen", "none"])
    lmp.command(f"read_restart {file}")
    attach(lmp, model, SPECIES)
    lmp.commands_list(["fix 1 all nve", "run 10"])
    ends.append(seen(lmp)["positions"])
    return {"ends": np.array(ends)}


def beside_snap(atoms, model, folder):
    """The energy at every step, with this potential and with LAMMPS's own."""
    jaxmlip.save(model, folder / f"own-{os.environ.get('PMI_RANK', 0)}.snapcoeff")
    energies = []
    for own in (False, True):
        lmp = begin(atoms)
        if own:
            file = folder / f"own-{os.environ.get('PMI_RANK', 0)}"
            lmp.commands_list(["pair_style snap", f"pair_coeff * * {file}.snapcoeff {file}.snapparam Li Mn O"])
            lmp.command("neighbor 1.0 bin")
        else:
            attach(lmp, model, SPECIES)
        lmp.commands_list(["velocity all create 300 7 dist gaussian loop all", "fix 1 all nve", "run 0"])
        found = []
        for _ in range(10):
            lmp.command("run 1 pre no post no")
            found.append(lmp.get_thermo("pe"))
        energies.append(found)
    return {"energies": np.array(energies)}


def refusals(atoms, model):
    """What goes wrong arrives as an exception of the command, on all ranks."""

    def message(do):
        try:
            do()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    lmp = begin(atoms)
    found = {"few": message(lambda: attach(lmp, model, ("Li", "O")))}
    found["unknown"] = message(lambda: attach(lmp, model, ("Li", "Mn", "F")))
    attach(lmp, model, SPECIES)
    lmp.commands_list(["neigh_modify every 50 delay 0 check yes", "velocity all set 100 0 0", "fix 1 all nve"])
    found["moved"] = message(lambda: lmp.command("run 20"))
    lmp = begin(atoms * (2, 1, 1))
    attach(lmp, model, SPECIES)
    lmp.command("comm_modify cutoff 4.0")
    found["ghosts"] = message(lambda: lmp.command("run 0"))
    near = atoms.copy()
    near.positions[1] = near.positions[0] + 0.001
    lmp = begin(near)
    attach(lmp, model, SPECIES)
    found["overlap"] = message(lambda: lmp.command("run 0"))
    found["units"] = message(lambda: attach(begin(atoms, "lj"), model, SPECIES))
    return found


def main(folder):
    """All runs."""
    with np.load(folder / "atoms.npz") as given:
        atoms = ase.Atoms(given["numbers"], given["positions"], cell=given["cell"], pbc=True)
    models = {name: jaxmlip.load(folder / f"{name}.npz") for name in ("snap", "nequip")}
    snap = models["snap"]
    found = {
        "static": static(atoms, snap),
        "real": static(atoms, snap, "real"),
        "layers": static(atoms, models["nequip"]),
        "dynamics": dynamics(atoms, snap),
        "barostat": barostat(atoms, snap),
        "minimized": minimized(atoms, snap),
        "restarted": restarted(atoms, snap, folder),
        "beside": beside_snap(atoms, snap, folder),
        "refusals": refusals(atoms, snap),
    }
    lmp = start(["-log", "none", "-screen", "none"])
    if lmp.extract_setting("world_rank") == 0:
        flat = {f"{run}/{name}": value for run, values in found.items() for name, value in values.items()}
        np.savez(folder / f"{lmp.extract_setting('world_size')}.npz", **flat)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(Path(sys.argv[1]))
