import ase
import jax
import numpy as np
import pytest
from morse import alloy, model

from jaxmlip.config import ConfigError
from jaxmlip.data.labels import Labels, attach
from jaxmlip.graph import batch
from jaxmlip.potentials.model import Model, predict
from jaxmlip.potentials.offsets import fit_offsets, given_offsets
from jaxmlip.potentials.registry import config_from_mapping, config_to_mapping, potential_of
from jaxmlip.potentials.snap import SNAPConfig, snap
from jaxmlip.potentials.sums import add, add_models
from jaxmlip.potentials.zbl import ZBLConfig, zbl


def labelled(formula, energy):
    atoms = ase.Atoms(formula)
    attach(atoms, Labels(energy, None, None))
    return atoms


def evaluate(model, atoms):
    with jax.enable_x64(True):
        graph = batch(atoms, model.potential.config, dtype="float64")
        params = jax.tree.map(lambda x: jax.numpy.asarray(np.asarray(x), "float64"), model.params)
        return jax.device_get(predict(Model(model.potential, params), graph))


def test_fit_recovers_exact_energies():
    energies = {"Li": -0.3, "O": -1.7, "Mn": -4.6}
    formulas = {"LiO2": (1, 2, 0), "Li2MnO3": (2, 3, 1), "MnO2": (0, 2, 1), "LiMnO2": (1, 2, 1)}
    cells = [labelled(f, float(np.dot(n, list(energies.values())))) for f, n in formulas.items()]
    cells.append(ase.Atoms("LiO"))  # no energy: left out
    np.testing.assert_allclose(fit_offsets(cells, tuple(energies)), list(energies.values()), atol=1e-12)


def test_fit_is_of_minimum_norm_when_the_data_cannot_tell():
    # LiO and Li2O2 only: Li and O share the energy; Mn does not occur
    fitted = fit_offsets([labelled("LiO", -4.0), labelled("Li2O2", -8.0)], ("Li", "O", "Mn"))
    np.testing.assert_allclose(fitted, [-2, -2, 0], atol=1e-12)


def test_fit_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="none of the 1 structures has an energy"):
        fit_offsets([ase.Atoms("LiO")], ("Li", "O"))
    with pytest.raises(ValueError, match="structure 1 is not a finite number"):
        fit_offsets([labelled("LiO", -4.0), labelled("Li", np.nan)], ("Li", "O"))
    with pytest.raises(ValueError, match="unknown element 'Mn'"):
        fit_offsets([labelled("MnO", -4.0)], ("Li", "O"))


def test_given_offsets():
    config = SNAPConfig(species=(8, "Mn"), cutoff=4.0)
    np.testing.assert_array_equal(given_offsets(config, {"Mn": -4.6, "O": -1.7, "Li": -0.3}), [-1.7, -4.6])
    np.testing.assert_array_equal(given_offsets(config, "keep", {"offsets": [1.0, 2.0]}), [1.0, 2.0])
    with pytest.raises(ConfigError, match="no energy for Mn"):
        given_offsets(config, {"O": -1.7})
    with pytest.raises(ConfigError, match="needs a model"):
        given_offsets(config, "keep")


# LAMMPS (pair_style zbl 1.5 2.0, units metal): symbols, r/Å, energy/eV, force on the first atom/(eV/Å)
LAMMPS = [
    ("LiO", 0.3, 276.3839606900017, -1940.4771524471184),
    ("LiO", 0.9, 14.693673559229772, -56.520140520058746),
    ("LiO", 1.7, 0.32446910228762, -3.0135797315152857),
    ("MnO", 1.95, 0.006816327412358936, -0.4049000994922914),
    ("Mn2", 0.3, 4552.480802586471, -36668.08215078885),
    ("Mn2", 1.7, 2.574675219183387, -24.344410154019137),
]


@pytest.mark.parametrize(("symbols", "r", "energy", "force"), LAMMPS)
def test_zbl_is_that_of_lammps(symbols, r, energy, force):
    potential = zbl(ZBLConfig(species=("Li", "O", "Mn"), cutoff=2.0, inner=1.5))
    found = evaluate(Model(potential, potential.init(None)), ase.Atoms(symbols, [[0, 0, 0], [r, 0, 0]]))
    # LAMMPS's e²/4πε₀ is 14.399645 eV·Å, CODATA's differs in the ninth digit
    assert found.energy[0] == pytest.approx(energy, rel=1e-7)
    assert found.forces[0, 0] == pytest.approx(force, rel=1e-7)


def test_zbl_ends_smoothly():
    potential = zbl(ZBLConfig(species=("Li", "O"), cutoff=2.0))

    def at(r):
        return evaluate(Model(potential, potential.init(None)), ase.Atoms("LiO", [[0, 0, 0], [r, 0, 0]]))

    near, far = at(2.0 - 1e-3), at(2.0 + 1e-3)
    assert far.energy[0] == 0
    assert not far.forces.any()
    # energy, force and curvature vanish at the cutoff: 1e-3 Å before it they are of third, second and first order
    assert 0 <= near.energy[0] < 1e-6
    assert abs(near.forces[0, 0]) < 1e-3


def test_zbl_refuses_a_switch_without_room():
    with pytest.raises(ConfigError, match="inner must lie between 0 and the cutoff"):
        ZBLConfig(species=("Li",), cutoff=1.0, inner=1.0)


@pytest.fixture(scope="module")
def repulsion():
    potential = zbl(ZBLConfig(species=("Cu", "Ni", "Pd"), cutoff=3.0))
    return Model(potential, {"offsets": np.array([0.5, 0.0, -0.5])})


def test_a_sum_is_the_sum(repulsion):
    parts = [evaluate(m, alloy()) for m in (model(), repulsion)]
    total = evaluate(add_models(model(), repulsion), alloy())
    for name in ("energy", "forces", "stress", "atomic_energies"):
        # float64; the shorter potential sees the neighbours of the longer one and gives them exact zeros
        np.testing.assert_allclose(getattr(total, name), sum(getattr(p, name) for p in parts), atol=1e-11)


def test_a_sum_is_built_once_and_from_its_configuration(repulsion):
    linear = snap(SNAPConfig(species=("Cu", "Ni", "Pd"), cutoff=4.0, twojmax=2))
    total = add(linear, repulsion.potential)
    assert add(linear, repulsion.potential) is total
    assert potential_of(total.config) is total
    mapping = config_to_mapping(total.config)
    assert mapping["first"]["family"] == "snap"
    assert mapping["second"]["family"] == "zbl"
    assert potential_of(config_from_mapping(mapping)) is total
    assert hash(total.config) == hash(config_from_mapping(mapping))
    nested = add(total, repulsion.potential)
    assert config_from_mapping(config_to_mapping(nested.config)) == nested.config
    params = total.init(jax.random.key(0), None)
    assert set(params) == {"offsets", "first", "second"}
    assert "offsets" not in params["first"]


def test_a_sum_needs_the_same_species(repulsion):
    with pytest.raises(ConfigError, match="same species in the same order"):
        add(repulsion.potential, zbl(ZBLConfig(species=("Cu",), cutoff=1.0)))
