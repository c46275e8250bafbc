import jax
import jax.numpy as jnp
import numpy as np
import pytest
from morse import MorseConfig, morse

import jaxmlip
from jaxmlip.graph import stack, take


@pytest.fixture(scope="module")
def data():
    frames = jaxmlip.datasets.load("ldr")[::12]
    species = tuple(sorted({s for frame in frames for s in frame.symbols}))
    potential = morse(MorseConfig(species=species, cutoff=4.5))
    n = len(species)
    params = {"offsets": np.arange(n) * 1.0, "depth": np.full((n, n), 0.3), "radius": np.full((n, n), 2.1)}
    return frames, potential, params


def test_a_drawn_graph_predicts_what_the_structures_do(data):
    """1e-12: the same sums in another order."""
    frames, potential, params = data
    buckets = stack(frames, potential.config, n_shapes=3)
    assert sorted(k for bucket in buckets for k in bucket.index) == list(range(len(frames)))
    assert len(buckets) == 3
    bucket = max(buckets, key=lambda bucket: bucket.n_structures)
    rows = np.array([bucket.n_structures - 1, -1, 0])
    graph, labels = jax.jit(take)(bucket.graphs, bucket.labels, jnp.asarray(rows))
    found = jaxmlip.predict(jaxmlip.Model(potential, params), graph)
    width = len(graph.positions) // 3
    for place in (0, 2):
        frame = frames[bucket.index[rows[place]]]
        alone = jaxmlip.predict(jaxmlip.Model(potential, params), jaxmlip.batch(frame, potential.config))
        inside = slice(place * width, place * width + len(frame))
        np.testing.assert_allclose(found.energy[place], alone.energy[0], rtol=1e-12)
        np.testing.assert_allclose(found.forces[inside], alone.forces, atol=1e-12)
        np.testing.assert_allclose(found.stress[place], alone.stress[0], atol=1e-12)
        given = jaxmlip.data.labels(frame)
        assert labels.energy[place] == given.energy
        np.testing.assert_array_equal(labels.forces[inside], given.forces)
        assert labels.has_energy[place]
        assert int(labels.has_forces[inside].sum()) == len(frame)
    assert found.energy[1] == 0
    assert not labels.has_energy[1]
    assert not graph.atom_mask[width : 2 * width].any()


def test_more_shapes_pad_less(data):
    frames, potential, _ = data
    sizes = []
    for n_shapes in (1, 2, 4):
        buckets = stack(frames, potential.config, n_shapes=n_shapes)
        assert len(buckets) <= n_shapes
        sizes.append(sum(bucket.graphs.atom_mask.size for bucket in buckets))
    assert sizes[0] > sizes[1] >= sizes[2] >= sum(map(len, frames))


def test_nothing_to_stack(data):
    with pytest.raises(ValueError, match="no structures"):
        stack([], data[1].config)
