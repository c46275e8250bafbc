"""i-PI drives our calculator through ASE's socket: path integrals of a small cell."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.socketio import SocketClient
from families import model, rocksalt

import jaxmlip

INPUT = """
<simulation verbosity='quiet'>
  <output prefix='run'>
    <properties stride='1' filename='out'>[step, conserved{{electronvolt}}, potential{{electronvolt}}]</properties>
  </output>
  <total_steps>4</total_steps>
  <prng><seed>1</seed></prng>
  <ffsocket name='ours' mode='unix'><address>{name}</address><latency>1e-3</latency></ffsocket>
  <system>
    <initialize nbeads='2'>
      <file mode='xyz'>start.xyz</file><velocities mode='thermal' units='kelvin'>300</velocities>
    </initialize>
    <forces><force forcefield='ours'/></forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'><timestep units='femtosecond'>0.25</timestep></dynamics>
    </motion>
    <ensemble><temperature units='kelvin'>300</temperature></ensemble>
  </system>
</simulation>
"""


def connected(server, name):
    """The client, once the server listens."""
    while True:
        try:
            return SocketClient(unixsocket=name)
        except OSError:
            assert server.poll() is None
            time.sleep(0.1)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # ASE leaves it so when nobody listens yet
def test_path_integrals_of_i_pi(tmp_path):
    atoms, name = rocksalt(), f"jaxmlip-{os.getpid()}"
    sides = " ".join(map(str, atoms.cell.lengths()))
    lines = [f"{len(atoms)}", f"# CELL(abcABC): {sides} 90 90 90 cell{{angstrom}} positions{{angstrom}}"]
    lines += [f"{s} {x!r} {y!r} {z!r}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions.tolist())]
    (tmp_path / "start.xyz").write_text("\n".join(lines) + "\n")
    (tmp_path / "input.xml").write_text(INPUT.format(name=name))
    server = subprocess.Popen([sys.executable, Path(sys.executable).parent / "i-pi", "input.xml"], cwd=tmp_path)
    try:
        atoms.calc = jaxmlip.calculator(model("snap"))
        energy = atoms.get_potential_energy()
        connected(server, name).run(atoms)
        assert server.wait(30) == 0
    finally:
        server.kill()
    step, conserved, potential = np.loadtxt(tmp_path / "run.out").T
    assert step[-1] == 4
    assert abs(potential[0] - energy) < 1e-6  # eV; constants of i-PI and ASE differ in their eighth digit
    assert np.ptp(conserved) < 1e-3
    assert np.ptp(potential) > 1e-4
