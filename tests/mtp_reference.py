"""Potentials of tests/reference/mtp (motep, MLIP-2, MLIP-3) as structures and as the text of a file."""

from pathlib import Path

import ase
import numpy as np

FOLDER = Path(__file__).parent / "reference" / "mtp"
NAMES = ("mlearn_Mo_level08", "random11_level04", "random11_level08", "random11_level16")


def content(name):
    return dict(np.load(FOLDER / f"{name}.npz"))


def frames(z):
    return [
        ase.Atoms(z[f"f{k}_numbers"], z[f"f{k}_positions"], cell=z[f"f{k}_cell"], pbc=True)
        for k in range(int(z["n_frames"]))
    ]


def n_moments(z):
    return 1 + max(len(z["alpha_index_basic"]) - 1, int(z["alpha_index_times"][:, 3].max(initial=0)))


def braces(values):
    if np.ndim(values) == 2:
        return "{" + ", ".join(map(braces, values)) + "}"
    return "{" + ", ".join(str(x) if isinstance(x, int) else f"{x:.16e}" for x in np.asarray(values).tolist()) + "}"


def file_text(z):
    """A `.mtp` file as MLIP lays it out, with all digits."""
    n = len(z["symbols"])
    radial = z["radial_coeffs"]
    pairs = "".join(
        f"\t\t{a}-{b}\n" + "".join(f"\t\t\t{braces(row)}\n" for row in radial[a, b]) for a, b in np.ndindex(n, n)
    )
    return (
        f"MTP\nversion = 1.1.0\npotential_name = MTP1m\nscaling = {float(z['scaling'])!r}\nspecies_count = {n}\n"
        f"potential_tag = \nradial_basis_type = RBChebyshev\n\tmin_dist = {float(z['min_dist'])!r}\n"
        f"\tmax_dist = {float(z['max_dist'])!r}\n\tradial_basis_size = {radial.shape[3]}\n"
        f"\tradial_funcs_count = {radial.shape[2]}\n\tradial_coeffs\n{pairs}"
        f"alpha_moments_count = {n_moments(z)}\nalpha_index_basic_count = {len(z['alpha_index_basic'])}\n"
        f"alpha_index_basic = {braces(z['alpha_index_basic'])}\n"
        f"alpha_index_times_count = {len(z['alpha_index_times'])}\n"
        f"alpha_index_times = {braces(z['alpha_index_times'])}\n"
        f"alpha_scalar_moments = {len(z['alpha_moment_mapping'])}\n"
        f"alpha_moment_mapping = {braces(z['alpha_moment_mapping'])}\n"
        f"species_coeffs = {braces(z['species_coeffs'])}\nmoment_coeffs = {braces(z['moment_coeffs'])}\n"
    )
