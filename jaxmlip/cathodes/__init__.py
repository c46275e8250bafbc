"""Cathodes: their structures and voltages."""

from jaxmlip.cathodes.fine_tuning import FineTuned, fine_tune
from jaxmlip.cathodes.profile import VoltageProfile, voltage_profile, voltage_profile_figure
from jaxmlip.cathodes.sensitivity import property_gradient, relaxed_ends, voltage_gradients
from jaxmlip.cathodes.structures import default_lattice, disordered_rocksalt, layered, spinel
from jaxmlip.cathodes.voltage import METALS, Voltage, average_voltage, voltages
from jaxmlip.units import LITHIUM_BCC

__all__ = ["LITHIUM_BCC", "METALS", "FineTuned", "Voltage", "VoltageProfile", "average_voltage", "default_lattice"]
__all__ += [
    "disordered_rocksalt",
    "fine_tune",
    "layered",
    "property_gradient",
    "relaxed_ends",
    "spinel",
    "voltage_gradients",
    "voltage_profile",
]
__all__ += ["voltage_profile_figure", "voltages"]
