"""Cathodes: their structures and voltages."""

from jaxmlip.cathodes.profile import VoltageProfile, voltage_profile, voltage_profile_figure
from jaxmlip.cathodes.sensitivity import property_gradient, relaxed_ends, voltage_gradients
from jaxmlip.cathodes.structures import default_lattice, disordered_rocksalt, layered, spinel
from jaxmlip.cathodes.voltage import (
    LITHIUM_BCC,
    PUBLISHED,
    Published,
    Voltage,
    average_voltage,
    mean_absolute_error,
    voltages,
)

__all__ = ["LITHIUM_BCC", "PUBLISHED", "Published", "Voltage", "average_voltage", "default_lattice"]
__all__ += ["VoltageProfile", "disordered_rocksalt", "layered", "mean_absolute_error", "property_gradient"]
__all__ += ["relaxed_ends", "spinel", "voltage_gradients", "voltage_profile", "voltage_profile_figure", "voltages"]
