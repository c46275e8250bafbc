import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from morse import alloy, model

from jaxmlip.graph import batch
from jaxmlip.potentials.model import predict
from jaxmlip.simulate.jaxmd import jaxmd_context, neighbor_graph, species_of, to_jaxmd


def skewed():
    atoms = alloy()[:2]
    atoms.set_cell([[2.7, 0.2, 0], [1.3, 3.5, 0], [0.9, -1.2, 4.1]], scale_atoms=False)
    return atoms


def slab():
    atoms = alloy() * (1, 1, 2)
    atoms.pbc = [True, True, False]
    return atoms


def cluster():
    atoms = alloy()
    atoms.pbc = False
    atoms.cell = None
    return atoms


STRUCTURES = {
    "one atom": lambda: bulk("Ni", a=3.5),
    "skewed": skewed,
    "slab": slab,
    "cluster": cluster,
    "outside the cell": lambda: _shifted(alloy()),
}


def _shifted(atoms):
    atoms.positions += [[7.0, -9.0, 0.5], [0, 0, 0], [-4.0, 0, 13.0], [0, 3.9, 0]]
    return atoms


@pytest.mark.parametrize("name", STRUCTURES)
def test_agrees_with_the_host_graph(name):
    atoms = STRUCTURES[name]()
    with jaxmd_context("float64"):
        from jax_md import quantity

        potential, params = model().potential, model().params
        expected = jax.device_get(predict(Model(potential, params), batch(atoms, potential.config)))
        system = to_jaxmd(model(), atoms)
        neighbor = system.neighbor_fn.allocate(system.positions, box=system.box)
        species = species_of(potential, atoms)

        @jax.jit
        def everything(positions, box):
            at = {"neighbor": neighbor, "box": box}
            energy, gradient = jax.value_and_grad(system.energy_fn)(positions, **at)
            graph = neighbor_graph(positions, neighbor, box=box, species=species, periodic=atoms.pbc)
            stress = quantity.stress(system.energy_fn, positions, box, neighbor=neighbor)
            return energy, gradient, stress, predict(Model(potential, params), graph).forces

        energy, gradient, stress, graph_forces = everything(system.positions, system.box)
    # 1e-10: float64 rounding of sums over some hundred pairs, with room
    assert abs(float(energy) - float(expected.energy[0])) < 1e-10
    np.testing.assert_allclose(-np.asarray(gradient), expected.forces, atol=1e-10)
    np.testing.assert_allclose(graph_forces, expected.forces, atol=1e-10)
    if name != "cluster":  # jax-md's stress has the opposite sign of ASE's
        np.testing.assert_allclose(-np.asarray(stress), expected.stress[0], atol=1e-10)


def test_updates_follow_atoms_across_the_border_and_a_changing_box():
    rng = np.random.default_rng(3)
    atoms = alloy()
    with jaxmd_context("float64"):
        potential, params = model().potential, model().params
        system = to_jaxmd(model(), atoms, skin=0.6)
        neighbor = system.neighbor_fn.allocate(system.positions, box=system.box, extra_capacity=64)
        update, energy_fn = jax.jit(system.neighbor_fn.update), jax.jit(system.energy_fn)
        positions, box = system.positions, system.box
        for _ in range(15):
            positions = positions + rng.normal(scale=0.02, size=(4, 3)) + np.array([0.15, -0.1, 0.05])
            box = box @ (jnp.eye(3) + rng.normal(scale=0.003, size=(3, 3)))
            neighbor = update(positions, neighbor, box=box)
            assert not neighbor.did_buffer_overflow
            atoms.set_cell(np.asarray(box).T)
            atoms.set_positions(np.asarray(positions @ box.T))
            expected = predict(Model(potential, params), batch(atoms, potential.config)).energy[0]
            assert abs(energy_fn(positions, neighbor=neighbor, box=box) - expected) < 1e-10


def test_overflow_is_reported_by_neighbours_and_by_images():
    atoms = alloy()
    with jaxmd_context("float64"):
        system = to_jaxmd(model(), atoms)
        neighbor = system.neighbor_fn.allocate(system.positions, box=system.box)
        assert not neighbor.did_buffer_overflow
        assert system.neighbor_fn.update(system.positions, neighbor, box=system.box * 0.93).did_buffer_overflow
        thin = system.box * jnp.array([[1.0, 1.0, 0.5]])
        assert system.neighbor_fn.update(system.positions, neighbor, box=thin).did_buffer_overflow
        again = system.neighbor_fn.allocate(system.positions, box=thin)
        assert not again.did_buffer_overflow


def test_derivatives_with_respect_to_parameters_and_of_second_order():
    atoms = alloy()
    with jaxmd_context("float64"):
        params = model().params
        system = to_jaxmd(model(), atoms)
        neighbor = system.neighbor_fn.allocate(system.positions, box=system.box)
        at = {"neighbor": neighbor, "box": system.box}
        by_params = jax.jit(jax.grad(lambda p: system.energy_fn(system.positions, params=p, **at)))(params)
        np.testing.assert_allclose(by_params["offsets"], [2, 1, 1], atol=1e-12)  # energy is linear in the offsets

        @jax.jit
        def gradient(positions):
            return jax.grad(system.energy_fn)(positions, **at)

        hessian = jax.jit(jax.jacrev(gradient))(system.positions)  # Cartesian, as jax-md's gradients are
        step = np.zeros((4, 3))
        step[0, 0] = 1e-5
        moved = step @ np.linalg.inv(np.asarray(system.box).T)
        difference = (gradient(system.positions + moved) - gradient(system.positions - moved)) / 2e-5
        np.testing.assert_allclose(hessian[:, :, 0, 0], difference, atol=1e-6)  # central differences, eV/Å²


def test_unknown_element():
    with pytest.raises(ValueError, match="unknown element 'Mo'"):
        to_jaxmd(model(), bulk("Mo"))
