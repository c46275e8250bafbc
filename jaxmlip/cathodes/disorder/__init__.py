"""Cation disorder: which cation sits where, sampled with a potential, and what follows for lithium."""

from jaxmlip.cathodes.disorder.charging import lithium_orders, relaxed_profile
from jaxmlip.cathodes.disorder.lithium import (
    VoltageCurve,
    lithium_sites,
    site_voltages,
    voltage_curve,
    voltage_range,
)
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
    ANIONS,
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
    Cells,
    DisorderedVoltage,
    compared_voltages,
    disordered_voltage,
    relaxed_lattice,
    snapshots,
)

__all__ = ["ANIONS", "Cells", "Chains", "DisorderedVoltage", "Estimate", "Move", "Percolation", "RelaxedSamples"]
__all__ += ["RelaxedSampling", "Samples", "Sampling", "Sites", "Step", "Sublattice", "Tetrahedra", "VoltageCurve"]
__all__ += ["WarrenCowley", "compared_voltages", "disordered_voltage", "estimate", "finite_size_threshold"]
__all__ += ["lithium_orders", "lithium_sites", "occupied", "parse_formula", "percolating_fraction", "random_numbers"]
__all__ += ["random_tetrahedra", "relaxed_lattice", "relaxed_profile", "replacements", "rocksalt", "sample"]
__all__ += ["sample_relaxed", "site_voltages", "sites_of", "snapshots", "swaps", "table_exchange", "tetrahedra_of"]
__all__ += ["tetrahedron_fractions", "threshold_content", "voltage_curve", "voltage_range", "warren_cowley"]
__all__ += ["zero_tm_percolation"]
