"""Models as programs for others: ``jax.export``'s artifact, and the bundle of lammps-jax."""

import base64
import json
import subprocess
import sys

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import model, rocksalt
from jax.extend import backend
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

import jaxmlip
from jaxmlip.formats.lammps_jax import capacity_for, write_bundle
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.testing import subject

ALONE = """
import json, sys, zipfile
import jax, numpy as np
from jax.extend import backend
from jaxlib import xla_client
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo
jax.config.update("jax_enable_x64", True)
with zipfile.ZipFile(sys.argv[1]) as file:
    program, about = file.read("program.stablehlo"), json.loads(file.read("metadata.json"))
given = np.load(sys.argv[2])
inputs = [given[one["name"]].astype(one["dtype"]) for one in about["inputs"]]
assert [list(x.shape) for x in inputs] == [one["shape"] for one in about["inputs"]]
with ir.Context() as context:
    text = str(stablehlo.deserialize_portable_artifact(context, program))
client = backend.get_backend("cpu")
loaded = client.compile_and_load(text.encode(), xla_client.DeviceList(tuple(client.devices()[:1])))
found = loaded.execute([jax.device_put(x) for x in inputs])
assert "jaxmlip" not in sys.modules
np.savez(sys.argv[3], **{one["name"]: np.asarray(x) for one, x in zip(about["outputs"], found)})
print(about["species"], about["cutoff"], about["units"]["energy"])
"""


def test_an_exported_program_needs_no_jaxmlip(tmp_path):
    one, atoms = model("snap"), rocksalt()
    jaxmlip.export(one, atoms, tmp_path / "program.zip", platforms=("cpu",))
    atoms.rattle(0.01, seed=8)
    graph = jaxmlip.batch(atoms, one.potential.config)
    np.savez(tmp_path / "in.npz", **{name: x for name, x in graph._asdict().items() if name != "scope"})
    paths = [str(tmp_path / name) for name in ("program.zip", "in.npz", "out.npz")]
    done = subprocess.run([sys.executable, "-c", ALONE, *paths], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "['Li', 'Mn', 'O'] 3.2 eV"
    expected = jaxmlip.predict(one, graph)
    with np.load(tmp_path / "out.npz") as found:
        for name in expected._fields:
            assert abs(found[name] - getattr(expected, name)).max() < 1e-12


def as_lammps_sees(atoms, cutoff, n_hops):
    """Own atoms and all images within n_hops cutoffs of the cell as ghosts, and pairs in a random order."""
    reach, cell = n_hops * cutoff, atoms.cell.array
    n = np.ceil(reach / (1 / np.linalg.norm(np.linalg.inv(cell), axis=0))).astype(int)
    shifts = np.stack(np.meshgrid(*[np.arange(-k, k + 1) for k in n], indexing="ij"), -1).reshape(-1, 3)
    images = (atoms.positions[None] + (shifts @ cell)[:, None]).reshape(-1, 3)
    owner, own = np.tile(np.arange(len(atoms)), len(shifts)), np.repeat(~shifts.any(axis=1), len(atoms))
    near = np.linalg.norm(images[:, None] - atoms.positions[None], axis=2).min(axis=1) <= reach
    kept = np.concatenate([np.flatnonzero(own), np.flatnonzero(near & ~own)])
    positions, owner = images[kept], owner[kept]
    pairs = neighbor_pairs(ase.Atoms(np.ones(len(kept), int), positions), cutoff)
    centers, neighbors = pairs.centers.astype(int), pairs.neighbors.astype(int)
    listed = centers < len(atoms) if n_hops == 1 else np.ones(len(centers), bool)
    order = np.random.default_rng(0).permutation(int(listed.sum()))
    return positions, owner, centers[listed][order], neighbors[listed][order]


def padded(x, n, fill=0):
    return np.concatenate([x, np.full((n - len(x), *x.shape[1:]), fill, x.dtype)])


def run_bundle(bundle, inputs):
    """Energy and forces, by JAX's own runtime in place of LAMMPS's."""
    blob = base64.b64decode(bundle["programs"]["energy_and_forces_mlir_b64"])
    with ir.Context() as context:
        text = str(stablehlo.deserialize_portable_artifact(context, blob))
    client = backend.get_backend("cpu")
    from jaxlib import xla_client

    loaded = client.compile_and_load(text.encode(), xla_client.DeviceList(tuple(client.devices()[:1])))
    return [np.asarray(x) for x in loaded.execute([jax.device_put(x) for x in inputs])]


@pytest.mark.parametrize(("family", "n_layers"), [("mtp", 1), ("nequip", 2)])
def test_a_bundle_gives_our_energy_and_forces_from_own_atoms_and_ghosts(tmp_path, family, n_layers):
    one = model(family)
    if n_layers > 1:
        potential = jaxmlip.build("nequip", species=("Li", "Mn", "O"), cutoff=2.6, num_layers=2, num_features=2)
        one = jaxmlip.Model(potential, subject(potential).params)
    atoms, config = rocksalt(), one.potential.config
    path = tmp_path / "model.lammps-jax.json"
    written = write_bundle(one, path, like=atoms, n_owned=len(atoms), platform="cpu")
    bundle = json.loads(path.read_text())
    assert bundle["contract"] == written["contract"]
    assert bundle["contract"]["n_hops"] == n_layers
    capacity = capacity_for(one.potential, like=atoms, n_owned=len(atoms))
    positions, owner, senders, receivers = as_lammps_sees(atoms, config.cutoff, n_layers)
    numbers = np.array([config.species.index(z) for z in atoms.numbers], np.int32)
    n, m = capacity.max_atoms, capacity.max_edges
    inputs = [padded(positions, n), padded(numbers[owner], n), np.int32(len(atoms)), np.int32(len(owner) - len(atoms))]
    inputs += [padded(x.astype(np.int32), m, n) for x in (senders, receivers)] + [
        padded(np.ones(len(senders), bool), m)
    ]
    energy, forces = run_bundle(bundle, inputs)
    total = np.zeros((len(atoms), 3))
    np.add.at(total, owner, forces[: len(owner)])  # LAMMPS sends forces on ghosts back
    expected = jaxmlip.predict(one, jaxmlip.batch(atoms, config))
    assert abs(energy - expected.energy[0]) < 1e-10
    assert abs(total - expected.forces).max() < 1e-10
    assert jnp.isfinite(forces).all()


def test_save_knows_the_bundle_by_its_suffix(tmp_path):
    potential = jaxmlip.build("zbl", species=("Li", "O"), cutoff=2.0)
    path = tmp_path / "lio.lammps-jax.json"
    jaxmlip.save(jaxmlip.Model(potential, potential.init(None, None)), path)
    contract = json.loads(path.read_text())["contract"]
    assert (contract["cutoff"], contract["unit_style"], contract["precision"]) == (2.0, "metal", "float64")
