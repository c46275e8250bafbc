"""Writing pacemaker's ``.yaml`` (B functions) and ``.yace`` (products, for LAMMPS); see `jaxmlip.formats.ace`."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from jaxmlip.descriptors.cluster_functions import Function
from jaxmlip.files import write_lines
from jaxmlip.formats.ace import OFFSETS, STEP
from jaxmlip.formats.ace_products import groups_of, real_products
from jaxmlip.potentials.ace import ACEConfig
from jaxmlip.potentials.ace_definition import pair_index
from jaxmlip.potentials.ace_evaluation import identity
from jaxmlip.potentials.ace_radial import Bond
from jaxmlip.potentials.model import Model


def write_ace(model: Model, path: str | Path) -> None:
    """Write a ``.yaml`` or ``.yace``; numbers read back as the same bits.

    Where the model has no splines (``spline_step`` 0), python-ace and LAMMPS use theirs of 0.001 Å on these numbers. A
    ``.yaml`` has no place for the energies of single atoms: they stand in its metadata, where we find them again and
    python-ace does not; a ``.yace`` has them.

    Raises:
        ValueError: the model is not an ACE, or one that the format cannot hold.
    """
    config, path = model.potential.config, Path(path)
    if not isinstance(config, ACEConfig):
        raise ValueError(f"only ACE models can be written as {path.suffix} here, this is {type(config).__name__}")
    if config.mixing is not None:
        raise ValueError(
            f"elements are mixed into {len(config.mixing[0])} channels, which pacemaker has no form for: save it as "
            f".npz, or fit one with n_channels={len(config.species)}"
        )
    written = _Written(model)
    lines = written.products() if path.suffix == ".yace" else written.functions(path)
    write_lines(path, lines)


class _Written:
    """A model as lines of a file."""

    def __init__(self, model: Model):
        config: Any = model.potential.config
        self.config, self.parts, self.symbols = config, config.parts, config.symbols
        n_species, n_densities = len(self.symbols), self.parts.n_densities
        self.offsets = np.asarray(model.params["offsets"], float)
        c = np.asarray(model.params["coefficients"], float)
        self.coefficients = c.reshape(n_species, n_densities, -1)
        radial = model.params.get("radial")
        self.radial = np.asarray(identity(self.parts) if radial is None else radial, float)
        self.step = config.spline_step or STEP

    def bond(self, i: int, j: int) -> tuple[Bond, list]:
        """Functions of distance of two species, and c_nlk."""
        bond = self.parts.bond(i, j)
        c = self.radial[pair_index(i, j, len(self.symbols))]
        return bond, c[: bond.n_max, : bond.l_max + 1, : bond.n_basis].tolist()

    def members(self, i: int) -> Iterator[tuple[Function, list[float]]]:
        """Functions of a central species with the coefficients of its densities."""
        P = self.parts.centres[i].n_densities
        for k in self.parts.members[i]:
            yield self.parts.functions[k], self.coefficients[i, :P, k].tolist()

    def functions(self, path: Path) -> Iterator[str]:
        """Lines of a ``.yaml``."""
        if any(function.orders is not None for function in self.parts.functions):
            raise ValueError(f"{path}: the model has single products, no coupled functions: write it as .yace")
        yield "global:"
        yield f"  DeltaSplineBins: {_text(self.step)}"
        if self.offsets.any():
            words = " ".join(f"{symbol} {_text(e)}" for symbol, e in zip(self.symbols, self.offsets.tolist()))
            yield f"metadata:\n  {OFFSETS}: {words}"
        yield "species:"
        for n in range(1, len(self.symbols) + 1):
            for chosen in combinations(range(len(self.symbols)), n):
                for i in chosen:
                    yield from self._block(i, tuple(j for j in chosen if j != i))

    def _block(self, i: int, others: tuple[int, ...]) -> Iterator[str]:
        """Functions of species ``i`` whose factors are of ``others``, all of them, and of itself."""
        mine = [(f, c) for f, c in self.members(i) if {i, *f.channels} == {i, *others}]
        if not mine and len(others) > 1:
            return
        yield f"  - speciesblock: {' '.join(self.symbols[j] for j in (i, *others))}"
        if not others:
            centre = self.parts.centres[i]
            yield f"    ndensityi: {centre.n_densities}"
            yield f"    npoti: {centre.embedding}"
            yield f"    parameters: {_text(list(centre.parameters))}"
            yield f"    rho_core_cut: {_text(centre.core)}"
            yield f"    drho_core_cut: {_text(centre.core_width)}"
        if len(others) <= 1:
            bond, c = self.bond(i, (others or (i,))[0])
            entries = {
                "nradmaxi": bond.n_max, "lmaxi": bond.l_max, "rcutij": bond.cutoff, "dcutij": bond.width,
                "NameOfCutoffFunctionij": "cos", "r_in": bond.inner, "delta_in": bond.inner_width,
                "inner_cutoff_type": self.parts.inner, "nradbaseij": bond.n_basis, "radbase": bond.basis or "TEST_zero",
                "radparameters": [bond.decay], "radcoefficients": c,
                "core-repulsion": [bond.prefactor, bond.exponent],
            }  # fmt: skip
            yield from (f"    {name}: {_text(value)}" for name, value in entries.items())
        yield "    nbody:" if mine else "    nbody: []"
        for f, c in mine:
            words = " ".join(self.symbols[j] for j in (i, *f.channels))
            lint = f", lint: {_text(list(f.couplings))}" if f.rank > 2 else ""
            ns = [n + 1 for n in f.ns]
            yield f"      - {{type: {words}, nr: {_text(ns)}, nl: {_text(list(f.ls))}{lint}, c: {_text(c)}}}"

    def products(self) -> Iterator[str]:
        """Lines of a ``.yace``."""
        yield f"elements: [{', '.join(self.symbols)}]"
        yield f"E0: {_text(self.offsets.tolist())}"
        yield f"deltaSplineBins: {_text(self.step)}"
        yield "embeddings:"
        for i, centre in enumerate(self.parts.centres):
            entries = {
                "ndensity": centre.n_densities,
                "FS_parameters": list(centre.parameters),
                "npoti": centre.embedding,
            }
            entries |= {"rho_core_cutoff": centre.core, "drho_core_cutoff": centre.core_width}
            yield f"  {i}: {_text(entries)}"
        yield "bonds:"
        species = range(len(self.symbols))
        for i, j in ((i, j) for i in species for j in species):
            bond, c = self.bond(i, j)
            entries = {
                "nradmax": bond.n_max, "lmax": bond.l_max, "nradbasemax": bond.n_basis,
                "radbasename": bond.basis or "TEST_zero", "radparameters": [bond.decay], "radcoefficients": c,
                "prehc": bond.prefactor, "lambdahc": bond.exponent, "rcut": bond.cutoff, "dcut": bond.width,
                "rcut_in": bond.inner, "dcut_in": bond.inner_width, "inner_cutoff_type": self.parts.inner,
            }  # fmt: skip
            yield f"  [{i}, {j}]: {_text(entries)}"
        yield "functions:"
        for i in species:
            yield f"  {i}:" if self.parts.members[i] else f"  {i}: []"
            yield from (f"    - {_text(entry)}" for entry in self._entries(i))

    def _entries(self, i: int) -> Iterator[dict[str, Any]]:
        """Products of a central species, those of equal factors together."""
        found: dict[tuple, dict[tuple[int, ...], np.ndarray]] = {}
        for f, c in self.members(i):
            table = {f.orders: 1.0} if f.orders is not None else real_products(f.ls, f.couplings, groups_of(f))
            mine = found.setdefault((f.channels, f.ns, f.ls), {})
            for ms, factor in table.items():
                mine[ms] = mine.get(ms, 0.0) + factor * np.array(c)
        P = self.parts.centres[i].n_densities
        for (channels, ns, ls), table in found.items():
            yield {
                "mu0": i, "rank": len(ls), "ndensity": P, "num_ms_combs": len(table), "mus": list(channels),
                "ns": [n + 1 for n in ns], "ls": list(ls), "ms_combs": [m for ms in table for m in ms],
                "ctildes": np.concatenate(list(table.values())).tolist(),
            }  # fmt: skip


def _text(value: Any) -> str:
    """YAML on one line; all digits, and a point in each number that is not whole."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text(x)}" for name, x in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, float):
        mantissa, _, exponent = repr(value).partition("e")
        return repr(value) if not exponent or "." in mantissa else f"{mantissa}.0e{exponent}"
    return str(value)
