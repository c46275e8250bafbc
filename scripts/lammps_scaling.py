"""Time of a potential in LAMMPS: ``mpiexec -n 2 -bind-to core python scripts/lammps_scaling.py --atoms 8000``.

Processor time of one rank, so that waiting for other programs of a busy machine does not count: all of a callback, and
of it the compiled program; and the largest memory of the rank. ``--own`` runs the same crystal in `jaxmlip.simulate`.
"""

import argparse
import resource
import time

import ase.build
import jax
import numpy as np

import jaxmlip
from jaxmlip.simulate import Dynamics, molecular_dynamics
from jaxmlip.simulate.lammps import attach, start
from jaxmlip.testing import subject


def model(family, settings):
    """A potential with random parameters small enough that atoms stay where they are."""
    potential = jaxmlip.build(family, species=("Mo",), cutoff=5.0, **settings)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: 1e-3 * np.asarray(x, float), subject(potential).params)
    return jaxmlip.Model(potential, params)


def timed(function, into):
    """The same function, whose processor time is added to a list."""

    def call(*args, **kwargs):
        begin = time.process_time()
        result = function(*args, **kwargs)
        into.append(time.process_time() - begin)
        return result

    return call


def memory():
    """The most that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def own(one, repeat, job):
    """The same crystal in our own dynamics: processor time of a longer run minus that of a shorter one."""
    atoms = ase.build.bulk("Mo", "bcc", 3.16, cubic=True).repeat(repeat)
    spent = []
    for steps in (job.steps, job.steps, 3 * job.steps):  # the first compiles; one log, one frame each
        every = {"log_every": steps, "frame_every": steps, "checkpoint_every": steps}
        settings = Dynamics(n_steps=steps, temperature=1200.0, precision=job.dtype, **every)
        begin = time.process_time()
        molecular_dynamics(one, atoms, settings)
        spent.append(time.process_time() - begin)
    each = 1e6 * (spent[2] - spent[1]) / (2 * job.steps * len(atoms))
    print(f"own dynamics: {len(atoms)} atoms; {each:.1f} µs/atom/step; {memory():.2f} GB")


def main():
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, default=4000)
    parser.add_argument("--family", default="mtp")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--native", action="store_true", help="pair_style snap itself")
    parser.add_argument("--own", action="store_true", help="our own dynamics, without LAMMPS")
    job = parser.parse_args()
    one = model(job.family, {"level": 8, "min_dist": 1.9} if job.family == "mtp" else {"twojmax": 6})
    n = round((job.atoms / 2) ** (1 / 3))
    long = round(job.atoms / (2 * n * n))
    if job.own:
        own(one, (long, n, n), job)
        return
    lmp = start(["-log", "none", "-screen", "none"])
    lmp.commands_list(
        [
            "units metal",
            "lattice bcc 3.16",
            f"region all block 0 {long} 0 {n} 0 {n}",
            "create_box 1 all",
            "create_atoms 1 box",
            "mass 1 95.95",
            "velocity all create 1200 1",
            "thermo 0",
            "fix 1 all nve",
        ]
    )
    whole, program, lists = [], [], []
    if job.native:
        if lmp.extract_setting("world_rank") == 0:
            jaxmlip.save(one, "scaling.snapcoeff")
        lmp.commands_list(
            ["neighbor 1.0 bin", "pair_style snap", "pair_coeff * * scaling.snapcoeff scaling.snapparam Mo"]
        )
    else:
        coupling = attach(lmp, one, ("Mo",), dtype=job.dtype)
        coupling._on_device = timed(coupling._on_device, program)
        coupling._list = timed(coupling._list, lists)
        lmp.set_fix_external_callback("jaxmlip", timed(coupling, whole))
    lmp.command("run 2")
    for times in (whole, program, lists):
        times.clear()
    begin = time.process_time()
    lmp.command(f"run {job.steps} pre no post no")
    total = time.process_time() - begin
    atoms = lmp.extract_setting("nlocal")
    each = 1e6 / atoms / job.steps
    text = ", ".join(f"{name} {sum(x) * each:.1f}" for name, x in (("program", program), ("lists", lists)))
    print(
        f"rank {lmp.extract_setting('world_rank')}: {atoms} atoms; µs/atom/step: all {total * each:.1f}, callback "
        f"{sum(whole) * each:.1f}, {text}; {len(lists)} lists in {job.steps} steps; "
        f"{memory():.2f} GB"
    )


if __name__ == "__main__":
    main()
