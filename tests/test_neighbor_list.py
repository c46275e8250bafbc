"""The neighbour list on the device against vesin's on the host."""

import jax
import numpy as np
import pytest
from ase.build import bulk
from morse import alloy, model
from test_jaxmd import STRUCTURES

from jaxmlip.graph import batch
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.model import Model, predict
from jaxmlip.simulate.jaxmd import fractional, jaxmd_context, species_of
from jaxmlip.simulate.neighbor_list import build_list, crowded, grown, holds, plan, within_cutoff


def large():
    atoms = bulk("Cu", cubic=True, a=3.6) * (6, 5, 1)
    atoms.set_cell(atoms.cell.array @ [[1, 0.1, 0], [0, 1, -0.2], [0.05, 0, 1]], scale_atoms=True)
    atoms.rattle(0.1, seed=2)
    atoms.positions[::7] += 2 * atoms.cell.array[0] - atoms.cell.array[2]
    return atoms


def pairs_of(neighbors, shifts, mask):
    center, slot = np.nonzero(np.asarray(mask))
    table = np.concatenate([center[:, None], np.asarray(neighbors)[center, slot][:, None]], axis=1)
    return {tuple(row) for row in np.concatenate([table, np.asarray(shifts)[center, slot]], axis=1).tolist()}


def host_pairs(atoms, cutoff):
    pairs = neighbor_pairs(atoms, cutoff)
    columns = (pairs.centers.astype(int), pairs.neighbors.astype(int), *pairs.shifts.T.astype(int))
    return {tuple(row) for row in np.stack(columns, axis=1).tolist()}


@pytest.mark.parametrize("name", ["skewed", "slab", "cluster", "outside the cell", "large"])
def test_lists_the_pairs_that_the_host_finds(name):
    atoms = large() if name == "large" else STRUCTURES[name]()
    sizes = plan(atoms, 3.4, 0.6)
    assert np.prod(sizes.bins) == (20 if name == "large" else 1)
    with jaxmd_context("float64"):
        position, box = fractional(atoms, "float64")
        species = species_of(model().potential, atoms)
        listed = jax.jit(build_list, static_argnums=0)(sizes, position, box)
        graph = jax.jit(within_cutoff)(listed, position, box, species)
        assert holds(listed, position, box)
    assert pairs_of(listed.neighbors, listed.shifts, listed.mask) == host_pairs(atoms, 4.0)
    assert pairs_of(graph.neighbors, graph.shifts, graph.mask) == host_pairs(atoms, 3.4)
    for table in (listed, graph):  # the reverse of the reverse is the pair itself, with the opposite shift
        reverse, mask = np.asarray(table.reverse), np.asarray(table.mask)
        assert (reverse.reshape(-1)[reverse.reshape(-1)] == np.arange(reverse.size)).all()
        back = np.asarray(table.shifts).reshape(-1, 3)[reverse]
        np.testing.assert_array_equal(back[mask], -np.asarray(table.shifts)[mask])


def test_forces_follow_moving_atoms_and_a_moving_box():
    rng = np.random.default_rng(3)
    atoms, potential, params = alloy(), model().potential, model().params
    sizes = grown(plan(atoms, potential.config.cutoff, 0.6), plan(atoms, potential.config.cutoff, 0.6))
    with jaxmd_context("float64"):
        position, box = fractional(atoms, "float64")
        species = species_of(potential, atoms)
        listed = jax.jit(build_list, static_argnums=0)(sizes, position, box)

        @jax.jit
        def follow(listed, position, box):
            listed = listed.update(position, box=box)
            graph = within_cutoff(listed, position, box, species)
            return listed, predict(Model(potential, params), graph), ~holds(listed, position, box)

        n_built, last = 0, listed
        for _ in range(12):
            position = position + rng.normal(scale=0.01, size=(4, 3))
            box = box @ (np.eye(3) + rng.normal(scale=0.002, size=(3, 3)))
            listed, found, failed = follow(listed, position, box)
            assert not failed
            n_built += bool((listed.reference_position != last.reference_position).any())
            last = listed
            atoms.set_cell(np.asarray(box).T)
            atoms.set_positions(np.asarray(position @ box.T))
            expected = predict(Model(potential, params), batch(atoms, potential.config))
            # float64 rounding of sums over some hundred pairs
            np.testing.assert_allclose(found.forces, expected.forces, atol=1e-10)
            np.testing.assert_allclose(found.stress, expected.stress, atol=1e-10)
        assert 0 < n_built < 12


def test_overflow_is_reported():
    atoms = large()
    sizes = plan(atoms, 3.4, 0.6)
    with jaxmd_context("float64"):
        position, box = fractional(atoms, "float64")
        compiled = jax.jit(build_list, static_argnums=0)
        assert compiled(sizes._replace(width=20), position, box).did_buffer_overflow
        assert compiled(sizes._replace(capacity=2), position, box).did_buffer_overflow
        assert compiled(sizes, position, box * 0.8).did_buffer_overflow  # bins became narrower than the reach
        listed = compiled(sizes, position, box)
        assert not crowded(listed, position, box)
        assert crowded(compiled(sizes._replace(inner=4), position, box), position, box)
        assert not holds(listed, position + 0.1, box * 1.3)
