"""Numbers of the published comparison that are not settings: errors of NequIP, Hubbard U; to set results beside.

Voltages (tables S3 and S6) are `jaxmlip.cathodes.PUBLISHED`, energies of atoms (table S2) are
`jaxmlip.potentials.offsets.STUDY_ENERGIES`, hyper-parameters (tables S1 and S5) `jaxmlip.potentials.presets`.

References:
    Choyal, Sagar, Sai Gautam, J. Chem. Theory Comput. 2024 (arXiv 2304.01650), supporting information.
"""

from typing import NamedTuple

HUBBARD_U = {"Mn": 3.9, "Ni": 6.2, "V": 3.25, "Cr": 3.7, "Fe": 5.3, "Co": 3.32, "Li": 0.0, "O": 0.0, "Sc": 0.0,
             "Ti": 0.0, "Cu": 0.0}  # fmt: skip
"""eV, of the DFT labels (table S2)."""


class PublishedErrors(NamedTuple):
    """Errors of one set: energies in meV/atom, forces in eV/Å."""

    energy_rmse: float
    energy_mae: float
    forces_rmse: float
    forces_mae: float


NEQUIP_ERRORS = {
    "train": PublishedErrors(48.658, 31.766, 0.084, 0.054),
    "test": PublishedErrors(40.672, 25.641, 0.133, 0.070),
}
"""NequIP on 2,000 structures, after 279 hours (table S4)."""

N_STRUCTURES = 10842
"""In the published data set, nine tenths for training."""

VOLTAGE_ERRORS = {"aenet": (0.34, 10.05), "mtp": (0.39, 12.18)}
"""Mean absolute errors against DFT, V and percent (tables S3 and S6), from voltages before rounding."""
