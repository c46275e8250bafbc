"""Monte Carlo of cation disorder: local energies against whole ones, averages against enumerations."""

import itertools
from dataclasses import replace

import ase.build
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from morse import MorseConfig, morse
from test_voltage import pair_model

import jaxmlip
from jaxmlip import Model
from jaxmlip.cathodes import layered
from jaxmlip.cathodes.disorder import (
    Cells,
    Chains,
    RelaxedSampling,
    Sampling,
    compared_voltages,
    disordered_voltage,
    energies,
    moves,
    relaxed_profile,
    sample,
    sample_relaxed,
    sampler,
    site_voltages,
    snapshots,
    voltage_curve,
)
from jaxmlip.cathodes.disorder.sites import Sites, Sublattice, occupied, random_numbers, rocksalt
from jaxmlip.cli import main
from jaxmlip.graph.batch import Shape
from jaxmlip.potentials.model import predict_energy
from jaxmlip.simulate import relax
from jaxmlip.units import BOLTZMANN

LOCAL = ("mtp", "snap", "aenet", "gap")


def ensemble(model, sites, some, *, temperature=1000.0, mu=None):
    """Everything that a trial needs."""
    potential = model.potential
    n_codes = len(potential.config.species) + 1
    table = moves.move_table(some, sites, potential.config.species)
    conditions = sampler.Conditions(
        jnp.asarray(1 / (BOLTZMANN * temperature)), jnp.zeros(n_codes) if mu is None else jnp.asarray(mu)
    )
    return sampler.Ensemble(energies.lattice_of(sites, potential), table, conditions)


def total(model, sites, codes, width):
    """Energy of the structure without its vacancies, which is a structure of its own."""
    atoms = occupied(sites, energies.numbers_of(codes, model.potential))
    graph = jaxmlip.batch(atoms, model.potential.config, shape=Shape(1, len(atoms), width))
    return float(predict_energy(model, graph)[0])


@pytest.mark.parametrize("family", [*LOCAL, "nequip"])
def test_local_differences_are_exact(family):
    """Swaps of ions and vacancies, in a cell shorter than twice the cutoff; 1e-10: rounding of some hundred terms."""
    model = families.model(family)
    sites = rocksalt("Li0.5MnO2", repeat=(1, 1, 2))
    task = ensemble(model, sites, moves.swaps(sites), temperature=1e5)
    numbers = random_numbers(sites, {"Li": 0.5, "Mn": 1, "O": 2})
    state = sampler.start(model, task.lattice, jnp.asarray(energies.codes_of(numbers, model.potential)))
    for k in range(3):
        state = sampler.advance(model, task, state, jax.random.key(k), jnp.asarray(10))
        expected = total(model, sites, np.asarray(state.occupation), task.lattice.graph.mask.shape[1])
        assert float(state.energies.sum()) == pytest.approx(expected, rel=1e-10, abs=1e-10)
    assert int(state.n_accepted) > 0
    kinds = np.asarray(state.occupation)
    np.testing.assert_array_equal(state.counts.sum(axis=0), np.bincount(kinds, minlength=4))


def alloy(n=2):
    """Eight fcc sites, two species and vacancies on four of them, of a model of pairs."""
    frame = ase.build.bulk("Cu", a=3.7).repeat((n, n, n))
    potential = morse(MorseConfig(species=("Cu", "Ni", "Pd"), cutoff=4.0))
    depth = np.array([[0.05, 0.09, 0.05], [0.09, 0.04, 0.05], [0.05, 0.05, 0.05]])
    offsets = np.array([-0.1, 0.0, 0.0])
    params = {"offsets": offsets, "depth": depth, "radius": np.full((3, 3), 2.6)}
    return Model(potential, jax.tree.map(jnp.asarray, params)), frame


def enumerated(model, lattice, choices, conditions):
    """Boltzmann averages of energy and of the numbers of each species over all occupations that ``choices`` allow."""
    occupations = np.array(list(choices))
    every = jax.jit(jax.vmap(lambda codes: energies.all_energies(model, lattice, codes).sum()))
    energy = np.asarray(every(jnp.asarray(occupations, jnp.int32)))
    counts = np.stack([(occupations == k).sum(axis=1) for k in range(4)], axis=1)
    action = float(conditions.beta) * (energy - counts @ np.asarray(conditions.mu))
    weight = np.exp(action.min() - action)
    weight /= weight.sum()
    return np.array([weight @ energy, *(weight @ counts)])


def sampled(model, task, codes, *, n_samples=300, n_chains=16, n_trials=20):
    """The same from chains side by side: means, and standard errors from the spread of the chains."""
    state = sampler.start(model, task.lattice, jnp.asarray(codes, jnp.int32))
    states = jax.tree.map(lambda x: jnp.stack([x] * n_chains), state)
    task = task._replace(conditions=jax.tree.map(lambda x: jnp.stack([x] * n_chains), task.conditions))
    rows = []
    for k in range(n_samples):
        keys, n = jax.random.key(k), jnp.asarray(n_trials)
        states = sampler.advance_all(model, task, states, keys, n)
        counts = np.asarray(states.counts).sum(axis=1)
        rows.append(np.concatenate([np.asarray(states.energies).sum(axis=1)[:, None], counts], axis=1))
    chains = np.mean(rows[n_samples // 10 :], axis=0)
    return chains.mean(axis=0), chains.std(axis=0, ddof=1) / np.sqrt(n_chains)


def agree(found, expected):
    """Within three standard errors, as of 16 independent chains; what cannot fluctuate is exact."""
    mean, error = found
    assert np.all(np.abs(mean - expected) <= 3 * error + 1e-12), (mean, expected, error)


def test_canonical_averages_are_those_of_the_enumeration():
    model, frame = alloy()
    sites = Sites(frame, (Sublattice(("Cu", "Ni"), np.arange(8)),))
    task = ensemble(model, sites, moves.swaps(sites), temperature=600.0)
    choices = (np.isin(np.arange(8), held).astype(int) for held in itertools.combinations(range(8), 3))
    expected = enumerated(model, task.lattice, choices, task.conditions)
    agree(sampled(model, task, [1, 1, 1, 0, 0, 0, 0, 0]), expected)


def test_semi_grand_canonical_averages_with_insertion_swaps_and_table_exchange():
    """Species that are rare and moves of two steps on two sublattices: the bias of the proposals must be right.

    Together they reach every occupation but one.
    """
    model, frame = alloy()
    parts = (Sublattice(("Cu", "Ni", "X"), np.arange(5)), Sublattice(("Ni", "Pd"), np.arange(5, 8)))
    sites = Sites(frame, parts)
    some = [*moves.swaps(sites), *moves.replacements(sites, "Cu", "X")]
    some += moves.table_exchange([moves.Step(0, "Cu", "Ni"), moves.Step(1, "Ni", "Pd")])
    some += moves.table_exchange([moves.Step(0, "Cu", "Ni"), moves.Step(0, "X", "Cu")])
    task = ensemble(model, sites, some, temperature=2000.0, mu=[-0.45, -0.3, -0.35, 0.0])
    allowed = [*[(0, 1, 3)] * 5, *[(1, 2)] * 3]
    left = (one for one in itertools.product(*allowed) if set(one) != {1})  # from Ni everywhere no move leads away
    expected = enumerated(model, task.lattice, left, task.conditions)
    found = sampled(model, task, [0, 0, 1, 3, 0, 1, 1, 2])
    agree(found, expected)


def test_tempering_exchanges_as_boltzmann_wants():
    """Two replicas of fixed energies at two temperatures: the share of time that the low one is cold is exact."""
    beta, energy = jnp.array([2.0, 1.0]), jnp.array([0.3, 0.9])
    blank = jnp.zeros((2, 1), jnp.int32)
    states = sampler.State(jnp.arange(2, dtype=jnp.int32)[:, None], energy[:, None], blank[:, None], blank[:, 0])
    conditions = sampler.Conditions(beta, jnp.zeros((2, 1)))

    @jax.jit
    def chain(states):
        def one(states, key):
            states, _ = sampler.temper(states, conditions, key, jnp.asarray(0))
            return states, states.occupation[0, 0]

        return jax.lax.scan(one, states, jax.random.split(jax.random.key(0), 4000))[1]

    share = float((chain(states) == 0).mean())
    right = 1 / (1 + np.exp(-float((beta[0] - beta[1]) * (energy[1] - energy[0]))))
    assert share == pytest.approx(right, abs=0.03)  # 4,000 correlated samples: 3 standard errors are about 0.03


def test_a_stopped_run_goes_on_with_the_same_chain(tmp_path):
    model, frame = alloy()
    sites = Sites(frame, (Sublattice(("Cu", "Ni"), np.arange(8)),))
    starts = np.tile([29, 28] * 4, (2, 1))
    chains = Chains(starts, [600.0, 900.0])
    path = tmp_path / "checkpoint.npz"
    long = Sampling(n_samples=6, equilibration=2, tempering=True)
    whole = sample(model, sites, chains, settings=long)
    sample(model, sites, chains, settings=replace(long, n_samples=2), checkpoint=path)
    resumed = sample(model, sites, chains, settings=long, checkpoint=path)
    np.testing.assert_array_equal(resumed.numbers, whole.numbers)
    np.testing.assert_array_equal(resumed.energies, whole.energies)
    np.testing.assert_array_equal(resumed.acceptance, whole.acceptance)
    with pytest.raises(ValueError, match="another run"):
        sample(model, sites, chains, settings=replace(long, seed=1), checkpoint=path)
    path.write_bytes(b"PK not a checkpoint")
    with pytest.raises(ValueError, match="no checkpoint"):
        sample(model, sites, chains, settings=long, checkpoint=path)


def test_relaxed_chains_keep_the_boltzmann_distribution_of_relaxed_energies():
    """Against all 28 arrangements relaxed in the same way; energies within three standard errors."""
    model, frame = alloy()
    model = Model(model.potential, {**model.params, "radius": np.array([[2.5, 2.7, 2.6], [2.7, 2.9, 2.6], [2.6] * 3])})
    sites = Sites(frame, (Sublattice(("Cu", "Ni"), np.arange(8)),))
    held = [np.where(np.isin(np.arange(8), one), 28, 29) for one in itertools.combinations(range(8), 2)]
    short = RelaxedSampling(n_samples=20, n_trials=3, max_steps=4)
    chains = Chains(np.array(held[:16]), [400.0] * 16)
    found = sample_relaxed(model, sites, chains, settings=short)
    relaxed = relax(model, [occupied(sites, one) for one in held], max_steps=4, fmax=0.05)
    energy = np.array([one.energy for one in relaxed])
    weight = np.exp(-(energy - energy.min()) / (BOLTZMANN * 400.0))
    means = found.energies[5:].mean(axis=0)
    error = means.std(ddof=1) / 4
    assert abs(means.mean() - weight @ energy / weight.sum()) < 3 * error
    assert 0 < found.acceptance.mean() < 1


def test_a_stopped_relaxed_run_goes_on_with_the_same_chain(tmp_path):
    model, frame = alloy()
    sites = Sites(frame, (Sublattice(("Cu", "Ni"), np.arange(8)),))
    chains = Chains(np.tile([29, 28] * 4, (2, 1)), [600.0, 900.0])
    long = RelaxedSampling(n_samples=4, equilibration=1, n_trials=3, max_steps=4)
    whole = sample_relaxed(model, sites, chains, settings=long)
    path = tmp_path / "checkpoint.npz"
    sample_relaxed(model, sites, chains, settings=replace(long, n_samples=1), checkpoint=path)
    resumed = sample_relaxed(model, sites, chains, settings=long, checkpoint=path)
    for one, other in zip(resumed[:3], whole[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="another run"):
        sample(model, sites, chains, checkpoint=path)


def test_insertion_in_balance_with_relaxed_energies():
    """One site of a pair that lithium may leave, candidates from hotter trials: its content is Boltzmann's."""
    model, frame = alloy()
    sites = Sites(frame, (Sublattice(("Cu", "X"), np.arange(1)), Sublattice(("Ni",), np.arange(1, 8))))
    held = [np.array([first] + [28] * 7) for first in (29, 0)]
    settings = RelaxedSampling(n_samples=30, equilibration=3, n_trials=3, max_steps=3)
    full, empty = (one.energy for one in relax(model, [occupied(sites, one) for one in held], max_steps=3, fmax=0.05))
    hot, mu = 3000.0, full - empty + 0.1
    chains = Chains(np.array(held * 8), [hot] * 16, {"Cu": [mu] * 16}, moves.replacements(sites, "Cu", "X"))
    found = sample_relaxed(model, sites, chains, settings=settings)
    means = (found.numbers[:, :, 0] == 29).mean(axis=0)
    exact = 1 / (1 + np.exp(-0.1 / (BOLTZMANN * hot)))
    assert abs(means.mean() - exact) < 3 * means.std(ddof=1) / 4


def test_moves_that_break_detailed_balance_are_refused():
    sites = rocksalt("Li0.5MnO2", repeat=(1, 1, 1))
    one_way = moves.replacements(sites, "Li", "X")[:1]
    with pytest.raises(ValueError, match="reverse"):
        moves.move_table(one_way, sites, (3, 25, 8))
    with pytest.raises(ValueError, match="does not know Mn"):
        moves.move_table(moves.swaps(sites), sites, (3, 8))
    with pytest.raises(ValueError, match="allowed there"):
        moves.move_table(moves.table_exchange([moves.Step(1, "O", "F")]), sites, (3, 25, 8, 9))
    with pytest.raises(ValueError, match="more cations"):
        rocksalt("Li2MnO2")
    with pytest.raises(ValueError, match="no formula"):
        rocksalt("LiMnO2x")


def test_voltages_of_insertion_and_of_single_sites():
    """Without interactions every site has one voltage V₀ and x(V) is Fermi's: 1 / (1 + exp[(V − V₀) / kT])."""
    potential = morse(MorseConfig(species=("Li", "O", "Co"), cutoff=1.0))
    blank = np.zeros((3, 3))
    model = Model(potential, {"offsets": np.array([-5.0, 0.0, 0.0]), "depth": blank, "radius": blank + 1.0})
    host = layered("Co").repeat((3, 3, 2))
    np.testing.assert_allclose(site_voltages(model, host, lithium_energy=-2.0), 3.0, atol=1e-12)
    grid, hot = [2.94, 3.0, 3.06], 600.0
    settings = Sampling(n_samples=100, equilibration=10)
    curve = voltage_curve(model, host, voltages=grid, temperature=hot, lithium_energy=-2.0, settings=settings)
    exact = 1 / (1 + np.exp((np.array(grid) - 3.0) / (BOLTZMANN * hot)))
    assert np.all(np.abs(curve.content.mean - exact) < 4 * curve.content.error)
    slope = -exact * (1 - exact) / (BOLTZMANN * hot)
    np.testing.assert_allclose(curve.slope, slope, rtol=0.5)  # a variance of 100 samples


def test_voltages_of_disordered_cells_have_errors_or_reasons():
    found = compared_voltages(pair_model(("Co",)), "LiCoO2", cells=Cells(cell=1, n=2))
    assert list(found) == ["random", "1300 K"]
    for one in found.values():
        assert len(one.voltages) + len(one.problems) == 2
        assert len(one.voltages) < 2 or np.isfinite(one.error)
    assert any(len(one.voltages) for one in found.values())


def test_snapshots_that_relaxed_energies_decide():
    """They are the last arrangements of the relaxed chains, on ideal sites."""
    model, sites = pair_model(("Co",)), rocksalt("LiCoO2", repeat=(1, 1, 1))
    settings = RelaxedSampling(n_samples=1, equilibration=1, n_trials=3, max_steps=3)
    frames = snapshots(model, sites, "LiCoO2", temperature=1300.0, n=2, settings=settings)
    starts = np.array([random_numbers(sites, {"Li": 1, "Co": 1, "O": 2}, seed) for seed in range(2)])
    found = sample_relaxed(model, sites, Chains(starts, [1300.0, 1300.0]), settings=settings)
    for frame, numbers in zip(frames, found.numbers[-1], strict=True):
        np.testing.assert_array_equal(frame.numbers, numbers)
        np.testing.assert_array_equal(frame.positions, sites.frame.positions)


def test_the_voltage_over_content_of_a_host_that_relaxes():
    """Its average is that of the two ends, each relaxed; the hull lies between them."""
    model, host = pair_model(("Co",)), layered("Co").repeat((2, 1, 1))
    found = relaxed_profile(model, host, contents=(1,), n_orders=1, settings=Sampling(n_samples=2, equilibration=0))
    (ends,) = disordered_voltage(model, [host]).voltages
    assert found.average_voltage == pytest.approx(ends, abs=0.01)  # forces of 0.03 eV/Å
    assert [one.lithium for one in found.contents] == [0, 1, 2]
    with pytest.raises(ValueError, match="0 … 2"):
        relaxed_profile(model, host, contents=(3,))


def test_the_command_goes_on_where_it_stopped(tmp_path, capsys):
    model, out = tmp_path / "model.npz", tmp_path / "disorder"
    jaxmlip.save(families.model("mtp"), model)
    words = ["disorder", str(model), "LiMnO2", "--lattice", "4.2", "--cell", "1", "--equilibration", "0"]
    assert main([*words, "--n-samples", "3", "--out", str(out)]) == 0
    first = np.load(out / "checkpoint.npz", allow_pickle=False)["numbers"]
    assert main([*words, "--n-samples", "5", "--voltages", "--out", str(out)]) == 0
    longer = np.load(out / "checkpoint.npz", allow_pickle=False)["numbers"]
    np.testing.assert_array_equal(longer[:3], first)
    assert len(longer) == 5
    assert "tetrahedra with 4 Li" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert {"report.html", "order.csv", "order.png", "voltage_curve.csv", "structures.xyz", "run.json"} <= names
    assert len(jaxmlip.read(out / "structures.xyz")) == 2
    assert main(["disorder", str(model), "LiCoO2"]) == 2
    assert "not Co of LiCoO2" in capsys.readouterr().err
    assert main(["disorder", str(model), "MnO"]) == 2
    assert "nothing that could change places" in capsys.readouterr().err
