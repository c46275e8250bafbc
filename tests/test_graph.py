"""Neighbours and graphs: against ASE's neighbour list, and every border case."""

import ase
import ase.build
import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxmlip
from jaxmlip.graph import Shape, batch, batches, edge_vectors
from jaxmlip.graph.neighbors import neighbor_pairs, reverse_pairs
from jaxmlip.potentials.base import Config
from jaxmlip.potentials.model import predict_graph

CONFIG = Config(species=("Li", "O"), cutoff=4.0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_atoms=st.integers(1, 6),
    cutoff=st.floats(1.0, 7.0),
    pbc=st.tuples(*[st.booleans()] * 3),
)
def test_same_pairs_as_ase(seed, n_atoms, cutoff, pbc):
    """Distances to 1e-10 Å; cells of 3 Å and cutoffs up to 7 Å, atoms outside the cell."""
    rng = np.random.default_rng(seed)
    cell = 3 * np.eye(3) + rng.uniform(-0.7, 0.7, (3, 3))
    frame = ase.Atoms("H" * n_atoms, rng.uniform(-4, 7, (n_atoms, 3)), cell=cell, pbc=pbc)
    expected = np.sort(neighbor_list("d", frame, cutoff))
    if expected.size and expected[0] < 0.02:
        return
    pairs = neighbor_pairs(frame, cutoff)
    np.testing.assert_allclose(np.sort(pairs.distances), expected, rtol=0, atol=1e-10)
    vectors = (
        frame.positions[pairs.neighbors.astype(int)] - frame.positions[pairs.centers.astype(int)] + pairs.shifts @ cell
    )
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), pairs.distances, rtol=0, atol=1e-10)
    reverse = reverse_pairs(pairs)
    np.testing.assert_array_equal(pairs.centers[reverse], pairs.neighbors)
    np.testing.assert_array_equal(pairs.shifts[reverse], -pairs.shifts)


def test_slab_without_a_third_vector():
    slab = ase.build.fcc100("Cu", (1, 1, 2))
    slab.cell[2] = 0
    pairs = neighbor_pairs(slab, 3.0)
    assert len(pairs.centers) == len(neighbor_list("i", slab, 3.0))


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_cutoff_must_be_positive(cutoff):
    with pytest.raises(ValueError, match="positive number"):
        neighbor_pairs(ase.Atoms("H"), cutoff)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (ase.Atoms("LiO", [[0, 0, 0], [0, 0, 1e-4]]), "overlapping atoms"),
        (ase.Atoms("Li", [[np.nan, 0, 0]]), "not finite"),
        (ase.Atoms("Li", cell=[3, 3, 0], pbc=True), "span a volume"),
        (ase.Atoms("Li", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 3]], pbc=True), "span a volume"),
        (ase.Atoms(), "without atoms"),
        (ase.Atoms("Fe"), "unknown element 'Fe'"),
    ],
)
def test_broken_structures_are_refused(frame, message):
    with pytest.raises(ValueError, match=message):
        batch(frame, CONFIG)


def test_no_structures():
    with pytest.raises(ValueError, match="empty list"):
        batch([], CONFIG)


def test_a_shape_that_is_too_small_is_refused():
    cell = ase.Atoms("Li", cell=[3, 3, 3], pbc=True)
    with pytest.raises(ValueError, match="larger shape"):
        batch(cell, CONFIG, shape=Shape(1, 1, 4))


def test_padding_points_at_the_atom_itself_and_reverse_finds_the_partner():
    graph = batch(ase.Atoms("LiO", [[0, 0, 0], [0, 0, 2.0]]), CONFIG, shape=Shape(2, 4, 3))
    np.testing.assert_array_equal(graph.neighbors[~np.asarray(graph.mask)], np.repeat(np.arange(4), [2, 2, 3, 3]))
    np.testing.assert_allclose(edge_vectors(graph)[0, 0], [0, 0, 2.0])
    assert int(graph.reverse[0, 0]) == 3
    assert int(graph.reverse[1, 0]) == 0
    assert graph.atom_mask.tolist() == [True, True, False, False]


def test_batches_hold_every_structure_once_with_its_labels():
    frames = jaxmlip.datasets.load("ldr")
    config = Config(species=(3, 8, *range(21, 30)), cutoff=4.0)
    work = batches(frames, config, max_atoms=256, n_shapes=4)
    index = np.concatenate([b.index for b in work])
    np.testing.assert_array_equal(np.sort(index[index >= 0]), np.arange(len(frames)))
    assert len({(b.graph.n_graphs, *b.graph.mask.shape) for b in work}) <= 4
    for b in work:
        for g, k in enumerate(b.index):
            mine = np.asarray(b.graph.atom_mask) & (np.asarray(b.graph.atom_graph) == g)
            assert mine.sum() == (len(frames[k]) if k >= 0 else 0)
            if k >= 0:
                np.testing.assert_allclose(b.labels.energy[g], frames[k].get_potential_energy())
                np.testing.assert_allclose(np.asarray(b.labels.forces)[mine], frames[k].get_forces())
                np.testing.assert_array_equal(np.asarray(b.graph.positions)[mine], frames[k].positions)


def test_compilations_are_few():
    """150 structures of 8-93 atoms compile at most as many times as there are shapes."""
    potential = jaxmlip.build("snap", species=("Li", "O", *range(21, 30)), cutoff=3.0, twojmax=1)
    work = batches(jaxmlip.datasets.load("ldr"), potential.config, max_atoms=256, n_shapes=4)
    params = potential.init(None, None)
    before = predict_graph.n_programs()
    for b in work:
        jaxmlip.predict(jaxmlip.Model(potential, params), b.graph)
    assert len(work) > 4
    assert predict_graph.n_programs() - before <= 4


def test_a_graph_for_another_cutoff_or_species_is_refused():
    """Atoms at 3.5 Å see each other from a cutoff of 4 Å on; a graph that reaches farther changes no bit."""
    pair = ase.Atoms("LiO", [[0, 0, 0], [0, 0, 3.5]])
    potential = jaxmlip.build("snap", species=("Li", "O"), cutoff=4.0, twojmax=2)
    params = potential.init(None, None)
    params["coefficients"] = np.ones_like(params["coefficients"])
    model = jaxmlip.Model(potential, params)
    right, short, far = (batch(pair, Config(species=("Li", "O"), cutoff=c)) for c in (4.0, 3.0, 5.0))
    energy = float(jaxmlip.predict(model, right).energy[0])
    assert float(jaxmlip.predict(model, far).energy[0]) == energy != 0
    with pytest.raises(ValueError, match=r"Li, O with a cutoff of 3 Å, .* Li, O with 4 Å: make it with jaxmlip.batch"):
        jaxmlip.predict(model, short)
    with pytest.raises(ValueError, match="made for O, Li with"):
        jaxmlip.predict(model, batch(pair, Config(species=("O", "Li"), cutoff=4.0)))
