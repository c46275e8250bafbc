"""Sparse points: real environments of the right element, spread as each method promises, the same for a seed."""

import numpy as np
import pytest

import jaxmlip
from jaxmlip.descriptors.soap import soap
from jaxmlip.fitting.gaussian_process import regression
from jaxmlip.fitting.gaussian_process.regression import batch_stream
from jaxmlip.fitting.gaussian_process.sparsification import SELECTIONS, choose, distinct
from jaxmlip.potentials.gap import GAPConfig, gap

CONFIG = GAPConfig(species=(3, 8, 25, 22), cutoff=4.0, n_max=2, l_max=2)
FRAMES = [f for f in jaxmlip.datasets.load("ldr") if set(f.numbers) <= set(CONFIG.species)][:6]


@pytest.fixture(scope="module")
def stream():
    return batch_stream(FRAMES, CONFIG, 64)


@pytest.mark.parametrize("method", SELECTIONS)
def test_points_are_vectors_of_the_atoms_that_they_name(stream, method):
    chosen = choose(gap(CONFIG), stream, 5, method=method, seed=1)
    x = [np.asarray(soap(frame, CONFIG.soap)) for frame in FRAMES]
    for k, atoms in enumerate(chosen.atoms):
        total = sum(int((frame.numbers == CONFIG.species[k]).sum()) for frame in FRAMES)
        assert len(atoms) == min(5, total)
        assert len({tuple(place) for place in atoms}) == len(atoms)
        for row, (structure, atom) in enumerate(atoms):
            assert FRAMES[structure].numbers[atom] == CONFIG.species[k]
            np.testing.assert_allclose(chosen.points[k, row], x[structure][atom], rtol=0, atol=1e-13)
        assert not chosen.points[k, len(atoms) :].any()


@pytest.mark.parametrize("method", SELECTIONS)
def test_the_same_seed_gives_the_same_points(stream, method):
    first, second = (choose(gap(CONFIG), stream, 4, method=method, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.points, second.points)


def test_the_order_of_batches_does_not_matter(stream):
    """Environments are sorted by structure and atom before anything is chosen."""
    other = batch_stream(FRAMES, CONFIG, 200)
    for method in SELECTIONS:
        one, two = (choose(gap(CONFIG), s, 4, method=method) for s in (stream, other))
        np.testing.assert_allclose(one.points, two.points, rtol=0, atol=1e-12)


def test_chunks_give_what_the_whole_gives(stream, monkeypatch):
    """A large data set is never held; its neighbour lists come chunk by chunk."""
    monkeypatch.setattr(regression, "CHUNK", 60)
    chunked = batch_stream(FRAMES, CONFIG, 64)
    assert sorted(int(k) for one in chunked() for k in one.index if k >= 0) == list(range(len(FRAMES)))
    one, two = (choose(gap(CONFIG), s, 4, method="farthest") for s in (stream, chunked))
    np.testing.assert_allclose(one.points, two.points, rtol=0, atol=1e-12)


def clusters(n_each=40, n_clusters=6, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.abs(rng.normal(size=(n_clusters, 30)))
    x = np.repeat(centres / np.linalg.norm(centres, axis=1)[:, None], n_each, axis=0)
    return x + 0.01 * rng.normal(size=x.shape), np.repeat(np.arange(n_clusters), n_each)


@pytest.mark.parametrize("method", ["farthest", "cholesky", "kmeans"])
def test_spreading_methods_visit_every_cluster(method):
    x, label = clusters()
    chosen = SELECTIONS[method](x, 6, np.random.default_rng(0))
    assert len(set(label[chosen])) == 6


def test_cur_prefers_what_others_do_not_span():
    """One row in a direction of its own has leverage 1: it is taken at every seed."""
    x, _ = clusters(n_clusters=3)
    x[:, -1] = 0
    x[17] = 0
    x[17, -1] = 3.0
    taken = [17 in SELECTIONS["cur"](x, 20, np.random.default_rng(seed)) for seed in range(20)]
    assert all(taken)


def test_equal_environments_count_once():
    x, _ = clusters()
    doubled = np.concatenate([x, x[:50] + 1e-12])
    np.testing.assert_array_equal(distinct(doubled), np.arange(len(x)))
    assert len(distinct(np.zeros((0, 4)))) == 0


@pytest.mark.parametrize(
    ("settings", "message"), [({"method": "curr"}, "did you mean 'cur'"), ({"n": 0}, "at least 1")]
)
def test_wrong_requests_are_refused(stream, settings, message):
    with pytest.raises(ValueError, match=message):
        choose(gap(CONFIG), stream, settings.get("n", 3), method=settings.get("method", "cur"))
