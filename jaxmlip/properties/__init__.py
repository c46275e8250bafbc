"""Properties of materials from any potential: elasticity, vibrations, transport, migration."""

from jaxmlip.properties.elastic import Elastic, elastic_tensor
from jaxmlip.properties.equation_of_state import EquationOfState, equation_of_state, equation_of_state_figure
from jaxmlip.properties.migration import Barrier, migration_barrier
from jaxmlip.properties.transport import Diffusion, diffusion, pair_distribution
from jaxmlip.properties.vibrations import (
    Bands,
    bands_figure,
    default_supercell,
    force_constants,
    phonon_bands,
    write_force_constants,
)

__all__ = [
    "Bands",
    "Barrier",
    "Diffusion",
    "Elastic",
    "EquationOfState",
    "bands_figure",
    "default_supercell",
    "diffusion",
    "elastic_tensor",
    "equation_of_state",
    "equation_of_state_figure",
    "force_constants",
    "migration_barrier",
    "pair_distribution",
    "phonon_bands",
    "write_force_constants",
]
