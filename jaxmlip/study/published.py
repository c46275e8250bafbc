"""Numbers of the published comparison: settings, energies of atoms, voltages; to set results beside.

References:
    Choyal, Sagar, Sai Gautam, J. Chem. Theory Comput. 2024 (arXiv 2304.01650), supporting information.
"""

from typing import Any, NamedTuple

from jaxmlip.potentials.presets import Preset

ATOMIC_ENERGIES = {
    "Li": -0.3, "O": -1.7, "Mn": -4.6, "Ni": -3.0, "Sc": -2.1, "Ti": -2.4,
    "V": -2.7, "Cr": -4.5, "Fe": -2.2, "Co": -1.1, "Cu": -0.2,
}  # fmt: skip
"""eV, of single atoms (table S2)."""

N_STRUCTURES = 10842
"""In the published data set, nine tenths for training."""

VOLTAGE_ERRORS = {"aenet": (0.34, 10.05), "mtp": (0.39, 12.18)}
"""Mean absolute errors against DFT, V and percent (tables S3 and S6), from voltages before rounding."""


class PublishedVoltages(NamedTuple):
    """Voltages of the study in V against lithium."""

    dft: float
    aenet: float
    mtp: float


VOLTAGES = {
    "Ti": PublishedVoltages(1.82, 2.13, 2.30),
    "V": PublishedVoltages(3.32, 3.43, 2.90),
    "Cr": PublishedVoltages(4.16, 3.89, 3.73),
    "Mn": PublishedVoltages(2.89, 3.13, 3.38),
    "Fe": PublishedVoltages(3.94, 4.63, 4.07),
    "Co": PublishedVoltages(3.81, 4.27, 3.45),
    "Ni": PublishedVoltages(4.64, 4.38, 4.27),
    "Cu": PublishedVoltages(3.97, 4.37, 3.56),
}
"""DFT, AENET and MTP voltages of layered LiTMO2 to TMO2 (tables S3 and S6)."""

_TABLE = "Choyal, Sagar, Sai Gautam 2024, table S1"
_SNAP: dict[str, Any] = {"cutoff": 5.0, "twojmax": 6}

PRESETS: dict[str, Preset] = {
    "study-snap": Preset("snap", _SNAP, {"method": "linear", "offsets": ATOMIC_ENERGIES}, _TABLE),
    "study-qsnap": Preset("qsnap", _SNAP, {"method": "linear", "offsets": ATOMIC_ENERGIES}, _TABLE),
    "study-mtp": Preset(
        "mtp",
        {"cutoff": 5.0, "level": 16, "radial_basis_size": 8},
        {"method": "quasi-newton", "energy_weight": 45.0, "force_weight": 1.0, "stress_weight": 14.0},
        _TABLE + "; MLIP minimises ΔE²/N + 0.01 Σ ΔF² + 0.001 (V Δσ)²/N: these weights at 20 atoms and 200 Å³",
    ),
    "study-gap": Preset(
        "gap",
        {"cutoff": 5.0, "n_max": 4, "l_max": 4, "zeta": 4.0, "sigma_atom": 0.5},
        {"method": "gaussian-process", "offsets": ATOMIC_ENERGIES},
        _TABLE,
    ),
    "study-aenet": Preset(
        "aenet",
        {
            "cutoff": 8.0,
            "radial_order": 16,
            "angular_cutoff": 6.5,
            "angular_order": 4,
            "hidden": ["15:tanh", "15:tanh"],
        },
        {"method": "quasi-newton", "force_weight": 0.0, "epochs": 3300, "validation_fraction": 0.1},
        _TABLE + " (radial N 16 and angular N 4 as in the published input): energies only, L-BFGS",
    ),
    "study-nequip": Preset(
        "nequip",
        {"cutoff": 5.0, "polynomial_cutoff_p": 6, "num_features": 16, "l_max": 1, "num_layers": 4},
        {"method": "gradient", "learning_rate": 0.0049, "optimizer": "amsgrad"},
        "Choyal, Sagar, Sai Gautam 2024, SI table S5 (its cutoffs of 8.0 and 6.5 Å and 2 × 15 nodes look copied from "
        "the table of AENET and mean nothing to NequIP); AMSGrad as in nequip's example input of that time",
    ),
}
"""Hyper-parameters (tables S1 and S5) and the published input files."""
