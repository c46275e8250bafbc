"""Cation disorder: which cation sits where, sampled with a potential, and what follows for lithium."""

from jaxmlip.cathodes.disorder.lithium import VoltageCurve, lithium_sites, site_voltages, voltage_curve
from jaxmlip.cathodes.disorder.moves import Move, Step, replacements, swaps, table_exchange
from jaxmlip.cathodes.disorder.order import (
    Tetrahedra,
    WarrenCowley,
    random_tetrahedra,
    tetrahedra_of,
    tetrahedron_fractions,
    warren_cowley,
)
from jaxmlip.cathodes.disorder.percolation import (
    Percolation,
    finite_size_threshold,
    percolating_fraction,
    threshold_content,
    zero_tm_percolation,
)
from jaxmlip.cathodes.disorder.relaxed import RelaxedSamples, RelaxedSampling, sample_relaxed
from jaxmlip.cathodes.disorder.sampling import Chains, Samples, Sampling, sample
from jaxmlip.cathodes.disorder.sites import (
    Sites,
    Sublattice,
    occupied,
    parse_formula,
    random_numbers,
    rocksalt,
    sites_of,
)
from jaxmlip.cathodes.disorder.statistics import Estimate, estimate
from jaxmlip.cathodes.disorder.voltage import (
    DisorderedVoltage,
    compared_voltages,
    disordered_voltage,
    relaxed_lattice,
    snapshots,
)

__all__ = ["Chains", "Estimate", "Move", "Percolation", "RelaxedSamples", "RelaxedSampling", "Samples", "Sampling"]
__all__ += ["Sites", "Step", "Sublattice", "Tetrahedra", "VoltageCurve", "WarrenCowley", "estimate"]
__all__ += ["DisorderedVoltage", "compared_voltages", "disordered_voltage", "relaxed_lattice", "snapshots"]
__all__ += ["finite_size_threshold", "lithium_sites", "occupied", "parse_formula", "percolating_fraction"]
__all__ += ["random_numbers", "random_tetrahedra", "replacements", "rocksalt", "sample", "sample_relaxed"]
__all__ += ["site_voltages", "sites_of", "swaps", "table_exchange", "tetrahedra_of", "tetrahedron_fractions"]
__all__ += ["threshold_content", "voltage_curve", "warren_cowley", "zero_tm_percolation"]
