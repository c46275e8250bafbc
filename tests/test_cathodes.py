"""Builders of cathodes, voltage profiles, and derivatives through relaxed structures, of a model of pairs."""

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_voltage import pair_model

from jaxmlip.cathodes import (
    average_voltage,
    disordered_rocksalt,
    fine_tune,
    layered,
    property_gradient,
    spinel,
    voltage_gradients,
    voltage_profile,
    voltage_profile_figure,
)
from jaxmlip.cathodes.profile import Content, orderings, profile_of
from jaxmlip.data.labels import Labels, attach
from jaxmlip.evaluate import errors, predict_atoms
from jaxmlip.fitting import GaussNewtonFit
from jaxmlip.graph.neighbors import neighbor_pairs
from jaxmlip.potentials.model import Model
from jaxmlip.simulate import relax


def bonds(atoms, center, neighbor, reach):
    pairs = neighbor_pairs(atoms, reach)
    chosen = (atoms.symbols[pairs.centers] == center) & (atoms.symbols[pairs.neighbors] == neighbor)
    return np.sort(pairs.distances[chosen & (pairs.centers == pairs.centers[chosen][0])])


def test_o1_has_the_same_layers_straight_above_each_other():
    o3, o1 = layered("Co"), layered("Co", stacking="O1")
    assert o1.get_volume() == pytest.approx(o3.get_volume())
    np.testing.assert_allclose(bonds(o1, "Co", "O", 2.4), bonds(o3, "Co", "O", 2.4), atol=1e-10)
    assert len(bonds(o1, "Co", "O", 2.4)) == len(bonds(o1, "Li", "O", 2.4)) == 6
    np.testing.assert_allclose(bonds(o1, "Co", "Li", o1.cell.lengths()[2] / 2 + 1e-6), o1.cell.lengths()[2] / 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of spglib
def test_spinel():
    """Fd-3m: metals in octahedra, lithium in tetrahedra of oxygen."""
    from ase.spacegroup.symmetrize import check_symmetry

    atoms = spinel("Mn", lattice=8.24)
    assert atoms.get_chemical_formula() == "Li2Mn4O8"
    assert check_symmetry(atoms, symprec=1e-4).number == 227
    metal, lithium = bonds(atoms, "Mn", "O", 2.4), bonds(atoms, "Li", "O", 2.4)
    assert (len(metal), len(lithium)) == (6, 4)
    assert np.ptp(metal) < 1e-8
    assert 1.9 < metal[0] < 2.05
    assert spinel("Mn", lithium=False).get_chemical_formula() == "Mn4O8"
    assert spinel("Co").cell.volume == pytest.approx((2 * np.sqrt(2) * 2.84) ** 3 / 4, rel=0.05)


def test_quasirandom_rocksalt_is_nearer_to_the_random_alloy():
    """The share of unlike pairs of cations in each shell, which is ½ in a random alloy of equal parts."""

    def excess(atoms):
        pairs = neighbor_pairs(atoms, 1.5 * 4.15)
        cations = (atoms.numbers[pairs.centers] != 8) & (atoms.numbers[pairs.neighbors] != 8)
        unlike = (atoms.numbers[pairs.centers] != atoms.numbers[pairs.neighbors])[cations]
        shells = np.round(2 * (pairs.distances[cations] / 4.15) ** 2).astype(int)
        return sum((unlike[shells == shell].mean() - 0.5) ** 2 for shell in np.unique(shells))

    shares = {"Li": 1.0, "Mn": 1.0}
    made = disordered_rocksalt(shares, order="sqs", seed=1)
    assert made.get_chemical_formula() == "Li8Mn8O16"
    random = [excess(disordered_rocksalt(shares, seed=seed)) for seed in range(20)]
    assert excess(made) <= min(random)
    vacant = disordered_rocksalt({"X": 1.0, "Mn": 3.0}, order="sqs")
    assert vacant.get_chemical_formula() == "Mn12O16"
    assert disordered_rocksalt({"Mn": 1.0}, order="sqs").get_chemical_formula() == "Mn16O16"


def test_orderings_are_different_and_complete():
    host = layered("Co").repeat((2, 2, 1))
    found = orderings(host, 2, 100, 0)
    assert len(found) == 6  # 4 choose 2
    assert {frame.get_chemical_formula() for frame in found} == {"Co4Li2O8"}


def test_a_profile_is_the_formula_of_its_plateaus():
    host = layered("Co").repeat((2, 1, 1))
    profile = voltage_profile(pair_model(("Co",)), host)
    energies = {one.lithium: one.energy for one in profile.contents}
    whole = average_voltage(energies[2], energies[0], n_lithium=2)
    assert profile.average_voltage == pytest.approx(whole, abs=1e-9)
    for step in profile.plateaus:
        n = step.high - step.low
        assert step.voltage == pytest.approx(average_voltage(energies[step.high], energies[step.low], n_lithium=n))
    # one lithium of 97.87 g/mol: F / 3.6 M
    assert profile.capacity == pytest.approx(96485.33 / 3.6 / 97.873, rel=1e-4)
    assert profile.specific_energy == pytest.approx(profile.capacity * whole, rel=1e-6)
    assert voltage_profile_figure({"snap": profile}).axes
    with pytest.raises(ValueError, match="no lithium"):
        voltage_profile(pair_model(("Co",)), layered("Co", lithium=False))
    with pytest.raises(ValueError, match="0 … 2"):
        voltage_profile(pair_model(("Co",)), host, contents=[3])


def test_only_contents_on_the_hull_make_plateaus():
    """Energies made up: half-filled is stable in the first case, above the hull in the second."""

    def contents(middle):
        hosts = [orderings(layered("Co").repeat((2, 1, 1)), n, 1, 0)[0] for n in range(3)]
        return [Content(n, e, None, 1, (), atoms) for (n, e), atoms in zip(enumerate((-36.0, middle, -48.0)), hosts)]

    stable, unstable = (profile_of(contents(middle), lithium_energy=-2.0) for middle in (-42.4, -41.5))
    assert [(p.low, p.high) for p in stable.plateaus] == [(0, 1), (1, 2)]
    assert [p.voltage for p in stable.plateaus] == pytest.approx([4.4, 3.6])
    assert [(p.low, p.high) for p in unstable.plateaus] == [(0, 2)]
    assert [one.above_hull for one in unstable.contents] == pytest.approx([0.0, 0.5, 0.0])
    far = [one._replace(energy=one.energy - 400.0 * len(one.atoms) - 190.0 * one.lithium) for one in contents(-42.4)]
    found = profile_of(far, lithium_energy=-2.0 - 400.0 - 190.0)  # another zero of each element's energies
    assert [p.voltage for p in found.plateaus] == pytest.approx([4.4, 3.6])
    assert [one.above_hull for one in found.contents] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    with pytest.raises(ValueError, match="not on the energy scale of the model"):
        profile_of(far, lithium_energy=-2.0)
    lost = [contents(-42.0)[0]._replace(energy=None, problems=("ran away",)), *contents(-42.0)[1:]]
    with pytest.raises(ValueError, match="ran away"):
        profile_of(lost)


def changed(model, name, place, by):
    values = np.array(model.params[name], float)
    values[place] += by
    return Model(model.potential, {**model.params, name: values})


TIGHT = {"fmax": 1e-7, "smax": 1e-9}


@pytest.mark.parametrize(("name", "place"), [("depth", (1, 2)), ("radius", (2, 1))])
def test_a_relaxed_volume_and_its_derivative(name, place):
    """Against central differences of relaxations; 1e-5 relative, their truncation at a step of 1e-3."""
    model, start = pair_model(("Co",)), layered("Co", lithium=False)
    relaxed = relax(model, start, **TIGHT)
    assert relaxed.converged
    volume, gradient = property_gradient(model, relaxed.atoms, lambda cell: jnp.abs(jnp.linalg.det(cell.cell)))
    assert volume == pytest.approx(relaxed.atoms.get_volume(), rel=1e-12)
    ends = [relax(changed(model, name, place, s), relaxed.atoms, **TIGHT).atoms.get_volume() for s in (1e-3, -1e-3)]
    assert gradient[name][place] == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-5, abs=1e-6)


def test_a_voltage_and_its_derivative():
    """Against differences of whole relaxations: the envelope theorem leaves no error of first order."""
    model = pair_model(("Co",))
    found = voltage_gradients(model, ["Co"])["Co"]
    for name, place in (("offsets", 0), ("depth", (0, 1)), ("radius", (1, 2))):
        voltages = [voltage_gradients(changed(model, name, place, s), ["Co"])["Co"].voltage for s in (1e-3, -1e-3)]
        assert found.gradient[name][place] == pytest.approx((voltages[0] - voltages[1]) / 2e-3, rel=1e-3, abs=1e-4)
    energy, gradient = property_gradient(model, layered("Co"), lambda cell: cell.energy)
    assert np.isfinite(energy)
    assert set(gradient) == set(model.params)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(gradient))


def test_fine_tuning_reaches_a_voltage_and_keeps_the_fit():
    """Labels are the model's own: a voltage 0.2 V away costs little of their fit where it is weighted lightly."""
    model = pair_model(("Co",))
    frames = [layered("Co", lithium=lithium) for lithium in (True, False)]
    frames += [relax(model, frame).atoms for frame in frames]
    for frame, *found in zip(frames, *predict_atoms(model, frames)[:3], strict=True):
        attach(frame, Labels(*found))
    target = voltage_gradients(model, ["Co"])["Co"].voltage + 0.2
    settings = GaussNewtonFit(energy_weight=1.0, epochs=3, n_shapes=1, batch_size=4)
    tuned = fine_tune(model, frames, {"Co": target}, settings=settings, voltage_weight=100.0)
    assert tuned.steps[0].rmse == pytest.approx(0.2, abs=1e-6)
    assert tuned.steps[-1].rmse < 0.05
    assert voltage_gradients(tuned.model, ["Co"])["Co"].voltage == pytest.approx(target, abs=0.05)
    assert errors(tuned.model, frames)["forces"].rmse < 0.05
    with pytest.raises(ValueError, match="no cell relaxes"):
        fine_tune(changed(model, "depth", (slice(None), slice(None)), -3.0), frames, {"Co": target}, settings=settings)


def test_atoms_are_plain():
    assert type(spinel("Co")) is ase.Atoms
