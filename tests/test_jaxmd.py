from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from morse import alloy, model

from jaxmlip.graph import batch
from jaxmlip.potentials.model import Model, predict
from jaxmlip.simulate.jaxmd import jaxmd_context, species_of, to_jaxmd
from jaxmlip.simulate.neighbor_list import within_cutoff


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
            graph = within_cutoff(neighbor, positions, box, species)
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


def test_overflow_is_reported_and_what_does_not_hold_gives_no_number():
    atoms = alloy()
    with jaxmd_context("float64"):
        system = to_jaxmd(model(), atoms)
        at = {"neighbor": system.neighbor_fn.allocate(system.positions, box=system.box)}
        update, energy_fn = jax.jit(system.neighbor_fn.update), jax.jit(system.energy_fn)
        assert not at["neighbor"].did_buffer_overflow
        for box in (system.box * 0.7, system.box * jnp.array([[1.0, 1.0, 0.5]])):
            crowded = update(system.positions, **at, box=box)
            assert crowded.did_buffer_overflow
            assert np.isnan(energy_fn(system.positions, neighbor=crowded, box=box))
            assert not system.neighbor_fn.allocate(system.positions, box=box).did_buffer_overflow
        with pytest.raises(ValueError, match="does not hold"):
            system.energy_fn(atoms.positions, **at, box=system.box)
        energy, gradient = jax.value_and_grad(energy_fn)(jnp.asarray(atoms.positions), **at, box=system.box)
        assert np.isnan(energy)
        assert np.isnan(gradient).any()
        with pytest.raises(ValueError, match="look Cartesian"):
            system.neighbor_fn.allocate(atoms.positions, box=system.box)
        for call in (
            lambda: system.energy_fn(system.positions, **at),
            lambda: system.neighbor_fn.allocate(system.positions),
            lambda: system.neighbor_fn.update(system.positions, **at),
            lambda: system.shift_fn(system.positions, system.positions),
        ):
            with pytest.raises(ValueError, match="box is missing"):
                call()


def test_derivatives_with_respect_to_parameters_and_of_second_order():
    atoms = alloy()
    with jaxmd_context("float64"):
        params = model().params
        system = to_jaxmd(model(), atoms)
        neighbor = system.neighbor_fn.allocate(system.positions, box=system.box)
        at = {"neighbor": neighbor, "box": system.box}
        by_params = jax.jit(jax.grad(lambda p: system.energy_fn(system.positions, params=p, **at)))(params)
        np.testing.assert_allclose(by_params["offsets"], [2, 1, 1], atol=1e-12)  # energy is linear in the offsets
        gradient = jax.jit(lambda positions: jax.grad(system.energy_fn)(positions, **at))
        hessian = jax.jit(lambda positions: jax.hessian(system.energy_fn)(positions, **at))(system.positions)
        step = np.zeros((4, 3))
        step[0, 0] = 1e-5
        moved = step @ np.linalg.inv(np.asarray(system.box).T)
        difference = (gradient(system.positions + moved) - gradient(system.positions - moved)) / 2e-5
        # Cartesian, as jax-md's gradients are; central differences, eV/Å²
        np.testing.assert_allclose(hessian[:, :, 0, 0], difference, atol=1e-6)


def test_jaxmds_own_space_barostat_and_replicas():
    """Wrapped positions, as `periodic_general` gives them, need no new list where an atom crosses the border."""
    atoms = bulk("Cu", cubic=True, a=3.5) * (2, 2, 2)
    with jaxmd_context("float64"):
        from jax_md import simulate, space

        system = to_jaxmd(model(4.0), atoms)
        _, wrapping = space.periodic_general(system.box, fractional_coordinates=True, wrapped=True)
        update, energy = jax.jit(system.neighbor_fn.update), jax.jit(system.energy_fn)
        energies = {}
        for name, shift in (("wrapped", wrapping), ("unwrapped", system.shift_fn)):
            at = {"neighbor": system.neighbor_fn.allocate(system.positions, box=system.box), "box": system.box}
            first, builds = at["neighbor"], 0
            init, apply = map(jax.jit, simulate.nve(system.energy_fn, shift, 0.2))
            state = init(jax.random.key(0), system.positions, kT=0.002, mass=63.5, **at)
            for _ in range(20):
                state = apply(state, **at)
                at["neighbor"] = update(state.position, **at)
                builds += bool((at["neighbor"].reference_position != first.reference_position).any())
            energies[name] = float(energy(state.position, **at))
            assert builds == 0
            assert (np.asarray(state.position).min() >= 0) == (name == "wrapped")
        assert energies["wrapped"] == pytest.approx(energies["unwrapped"], abs=1e-9)

        at = {"neighbor": at["neighbor"]}
        bath = {"pressure": 0.02, "kT": 0.02}
        init, apply = map(jax.jit, simulate.npt_nose_hoover(system.energy_fn, system.shift_fn, 0.2, **bath))
        conserved = jax.jit(partial(simulate.npt_nose_hoover_invariant, system.energy_fn, **bath))
        state = init(jax.random.key(0), system.positions, box=system.box, mass=63.5, **at)
        invariant = [conserved(state, **at)]
        for _ in range(20):
            state = apply(state, **at)
            at["neighbor"] = update(state.position, **at, box=state.box)
        invariant.append(conserved(state, **at))
        assert float(jnp.linalg.det(state.box)) < float(jnp.linalg.det(system.box))
        # an error of second order: of some 1 eV of motion that is exchanged, half a percent at 2 fs
        assert invariant[1] == pytest.approx(float(invariant[0]), abs=5e-3)

        moved = system.positions + 0.002 * np.random.default_rng(0).normal(size=(3, 32, 3))

        def energy_of(positions):
            return energy(positions, neighbor=update(positions, first, box=system.box), box=system.box)

        many, one = jax.jit(jax.vmap(energy_of))(moved), energy_of(moved[1])
        assert many[1] == pytest.approx(float(one), abs=1e-10)


def test_swap_monte_carlo_takes_our_list():
    """jax-md's swaps need an energy of pairs, so only the list is ours."""
    atoms = bulk("Cu", cubic=True, a=3.5) * (3, 3, 3)
    with jaxmd_context("float64"):
        from jax_md import simulate, space

        system = to_jaxmd(model(4.0), atoms)
        displacement, shift = space.periodic_general(system.box)

        def neighbor_fn(positions, neighbor=None):
            if neighbor is None:
                return system.neighbor_fn.allocate(positions, box=system.box)
            return system.neighbor_fn.update(positions, neighbor, box=system.box)

        def energy(dr, sigma):
            return jnp.where(dr < 4.0, 0.05 * (sigma / jnp.where(dr > 0, dr, 1)) ** 12, 0)

        made = simulate.hybrid_swap_mc((displacement, shift), energy, neighbor_fn, 0.1, 0.03, t_md=0.5, N_swap=20)
        state = made[0](jax.random.key(0), system.positions, jnp.linspace(2.2, 2.6, len(atoms)))
        new = jax.jit(made[1])(state)
    assert np.isfinite(new.md.position).all()
    assert (new.sigma != state.sigma).any()
    np.testing.assert_allclose(np.sort(new.sigma), np.sort(state.sigma))


def test_unknown_element():
    with pytest.raises(ValueError, match="unknown element 'Mo'"):
        to_jaxmd(model(), bulk("Mo"))
