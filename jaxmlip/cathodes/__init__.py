"""Cathodes: their structures and voltages."""

from jaxmlip.cathodes.structures import default_lattice, disordered_rocksalt, layered
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
__all__ += ["disordered_rocksalt", "layered", "mean_absolute_error", "voltages"]
