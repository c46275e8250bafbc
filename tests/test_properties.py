import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.eos import EquationOfState
from morse import alloy, model

from jaxmlip.evaluate.style import save_figure
from jaxmlip.properties import (
    bands_figure,
    diffusion,
    elastic_tensor,
    equation_of_state,
    force_constants,
    migration_barrier,
    pair_distribution,
    phonon_bands,
    write_force_constants,
)
from jaxmlip.properties.vibrations import THZ, dynamical_matrices, phonopy_supercell
from jaxmlip.simulate import calculator, relax
from jaxmlip.units import GPA


@pytest.fixture(scope="module")
def minimum():
    return relax(model(), alloy(), fmax=1e-9, smax=1e-11).atoms


def test_equation_of_state(minimum):
    found = equation_of_state(model(), minimum, strain=0.03)
    # the fit leaves 1e-4 eV; the minimum itself is known
    minimum.calc = calculator(model(), skin=0.6)
    assert found.energy == pytest.approx(minimum.get_potential_energy(), abs=2e-4)
    assert found.volume == pytest.approx(minimum.get_volume(), rel=1e-3)
    theirs = EquationOfState(found.volumes, found.energies, eos="birchmurnaghan")
    volume, energy, modulus = theirs.fit()
    assert (found.volume, found.energy) == pytest.approx((volume, energy), rel=1e-5)
    assert found.bulk_modulus == pytest.approx(modulus, rel=1e-3)
    assert found.derivative == pytest.approx(theirs.eos_parameters[2], rel=1e-2)
    assert 3 < found.derivative < 8
    # Reuss's modulus is that of a crystal under pressure: relaxed shapes
    S = np.linalg.inv(elastic_tensor(model(), minimum).tensor)
    assert found.bulk_modulus == pytest.approx(1 / S[:3, :3].sum(), rel=0.02)
    far = minimum.copy()
    far.set_cell(far.cell.array * 1.1, scale_atoms=True)
    with pytest.raises(ValueError, match="no minimum between"):
        equation_of_state(model(), far, strain=0.01, relaxed=False)


def test_elastic_tensor_against_finite_differences():
    crystal = bulk("Cu", "hcp", a=2.5, c=4.1)  # no inversion at an atom: atoms move when the crystal is strained
    crystal.symbols[1] = "Ni"
    minimum = relax(model(), crystal, fmax=1e-9, smax=1e-11).atoms
    found = elastic_tensor(model(), minimum)
    step = 1e-4
    strains = np.zeros((6, 3, 3))
    for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        strains[k, a, b] += 0.5
        strains[k, b, a] += 0.5
    frames = []
    for sign in (1, -1):
        for strain in strains:
            frames.append(minimum.copy())
            frames[-1].set_cell(minimum.cell.array @ (np.eye(3) + sign * step * strain), scale_atoms=True)
    relaxed = [one.atoms for one in relax(model(), frames, cell=False, fmax=1e-10)]
    for frames_of, tensor in ((relaxed, found.tensor), (frames, found.clamped)):
        stresses = []
        for frame in frames_of:
            frame.calc = calculator(model(), skin=0.6)
            stresses.append(frame.get_stress())
        difference = (np.array(stresses[:6]) - np.array(stresses[6:])) / (2 * step)
        # central differences: an error of step² times fourth derivatives, and 1e-10 eV/Å of forces over the step
        np.testing.assert_allclose(tensor, difference, atol=2e-5)
    assert np.abs(found.tensor - found.clamped).max() > 1e-2  # the atoms matter in this crystal
    assert found.stable
    assert 50 < found.bulk_modulus * GPA < 400
    with pytest.raises(ValueError, match="is no minimum"):
        elastic_tensor(model(), alloy())


@pytest.fixture(scope="module")
def copper():
    return relax(model(), bulk("Cu", a=3.5), fmax=1e-9, smax=1e-11).atoms


def test_dispersion_of_one_cell_is_that_of_supercells(copper):
    exact = phonon_bands(model(), copper, n_points=12)
    assert exact.labels[0] == "G"
    assert exact.frequencies.shape[1] == 3
    np.testing.assert_allclose(exact.frequencies[0], 0, atol=1e-4)  # acoustic: sqrt of rounding
    away = np.linalg.norm(exact.points, axis=1) > 0.2
    assert exact.frequencies[away].min() > 0.5
    # a supercell is exact where its wave fits in, whatever its size
    constants = force_constants(model(), copper, (2, 2, 2))
    masses = copper.get_masses()[0]
    signs = np.exp(2j * np.pi * np.array([(k % 2) * 0.5 for k in range(8)]))  # q = (½, 0, 0); the first vector fastest
    D = np.einsum("b,bxy->xy", signs, constants[0]) / masses
    (matrix,) = dynamical_matrices(model(), copper, np.array([[0.5, 0, 0]]))
    np.testing.assert_allclose(D, matrix, atol=1e-10)
    # and everywhere when it is larger than the range of the forces
    many = phonon_bands(model(), copper, n_points=12, repeat=(5, 5, 5))
    np.testing.assert_allclose(many.frequencies, exact.frequencies, atol=2e-2)
    forces = []
    for sign in (1, -1):
        moved = phonopy_supercell(copper, (2, 2, 2))
        moved.positions[0, 0] += sign * 1e-4
        moved.calc = calculator(model(), skin=0.6)
        forces.append(moved.get_forces())
    np.testing.assert_allclose(constants[0, :, 0], -(forces[0] - forces[1]) / 2e-4, atol=1e-6)
    assert pytest.approx(15.633302, rel=1e-5) == THZ  # phonopy's factor for eV, Å and amu


def test_two_atoms_of_different_mass(minimum, tmp_path):
    one = phonon_bands(model(), minimum, path="GX", n_points=4)
    assert one.frequencies.shape == (4, 12)
    figure = bands_figure(one)
    save_figure(figure, tmp_path / "bands.png")
    assert (tmp_path / "bands.png").stat().st_size > 5000
    write_force_constants(tmp_path / "FORCE_CONSTANTS", model(), minimum, (2, 1, 1))
    lines = (tmp_path / "FORCE_CONSTANTS").read_text().splitlines()
    assert lines[0].split() == ["4", "8"]
    assert lines[1].split() == ["1", "1"]
    assert lines[1 + 4 * 8].split() == ["3", "1"]  # the second atom is the third of phonopy's supercell
    assert len(lines) == 1 + 4 * 8 * 4


def test_pair_distribution():
    rng = np.random.default_rng(0)
    gas = ase.Atoms("Ar400", rng.uniform(0, 20, (400, 3)), cell=[20] * 3, pbc=True)
    _, g = pair_distribution([gas], reach=12.0, n_bins=24)  # longer than half the cell: images count
    np.testing.assert_allclose(g[8:], 1, atol=0.05)  # 1/sqrt(number of pairs in a bin) is 1 %
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    r, g = pair_distribution([crystal], pair=("Na", "Cl"), reach=3.5, n_bins=70)
    (peak,) = np.flatnonzero(g)
    assert abs(r[peak] - 2.8) <= 0.05
    shell = 4 / 3 * np.pi * ((r[peak] + 0.025) ** 3 - (r[peak] - 0.025) ** 3)
    assert g[peak] * shell / crystal.get_volume() == pytest.approx(6)  # neighbours
    with pytest.raises(ValueError, match="lacks an element"):
        pair_distribution([crystal], pair=("Na", "K"))


def test_diffusion_of_walkers():
    rng = np.random.default_rng(1)
    walk = rng.normal(scale=0.1, size=(1000, 100, 3)).cumsum(axis=0)
    found = diffusion(walk, 2.0)
    assert found.coefficient == pytest.approx(0.01 * 3 / 6 / 2, abs=4 * found.error)
    assert found.error < 0.05 * found.coefficient
    with pytest.raises(ValueError, match="too few"):
        diffusion(walk[:10], 2.0)


def test_barrier_of_a_vacancy():
    lattice = relax(model(), bulk("Cu", cubic=True, a=3.5), fmax=1e-6).atoms.cell.array[0, 0]
    crystal = bulk("Cu", cubic=True, a=lattice) * (2, 2, 2)
    distances = crystal.get_distances(0, range(len(crystal)), mic=True)
    neighbor = int(np.argsort(distances)[1])
    initial, final = crystal.copy(), crystal.copy()
    final.positions[neighbor] += crystal.get_distance(neighbor, 0, mic=True, vector=True)
    del initial[0], final[0]
    found = migration_barrier(model(), initial, final, n_images=5, fmax=0.05)
    assert found.converged
    assert found.forward == pytest.approx(found.backward, abs=2e-3)  # by symmetry
    np.testing.assert_allclose(found.energies, found.energies[::-1], atol=5e-3)
    assert int(found.energies.argmax()) == 2
    assert 0.2 < found.forward < 2.0
    with pytest.raises(ValueError, match="same atoms"):
        migration_barrier(model(), initial, final[:-1])
