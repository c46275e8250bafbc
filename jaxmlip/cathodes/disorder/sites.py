"""Sites of a crystal and who may sit on them: what Monte Carlo changes is the occupation, never a position.

A site is occupied by an atomic number, 0 ("X") is a vacancy. Sites stand in the order of ``frame``; every site belongs
to exactly one sublattice.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ase
import ase.build
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float, Integer

from jaxmlip.config import unknown_name

ANIONS = ("O", "F", "S", "Cl", "N")
"""Elements of the anion sublattice of a rocksalt."""

_TERM = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*)")


class Sublattice(NamedTuple):
    """Sites that exchange their occupants, and the species allowed there ("X": a vacancy)."""

    symbols: tuple[str, ...]
    sites: Integer[np.ndarray, " n"]


class Sites(NamedTuple):
    """All sites of a periodic cell. The elements in ``frame`` have no meaning, its positions and cell do."""

    frame: ase.Atoms
    sublattices: tuple[Sublattice, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """All species that may occur, vacancies among them."""
        return tuple(dict.fromkeys(symbol for one in self.sublattices for symbol in one.symbols))


def parse_formula(formula: str) -> dict[str, float]:
    """Elements with their amounts, in the order of the formula.

    >>> parse_formula("Li1.2Mn0.4Ti0.4O2")
    {'Li': 1.2, 'Mn': 0.4, 'Ti': 0.4, 'O': 2.0}

    Raises:
        ValueError: it is no formula, or an element stands there twice or with no amount.
    """
    terms = _TERM.findall(formula)
    symbols = [symbol for symbol, _ in terms]
    if not terms or "".join(symbol + amount for symbol, amount in terms) != formula or len(set(symbols)) < len(symbols):
        raise ValueError(
            f"{formula!r} is no formula: write each element once with its amount, such as LiMnO2 or Li1.2Mn0.4Ti0.4O2"
        )
    for symbol in symbols:
        if symbol not in atomic_numbers or symbol == "X":
            raise ValueError(unknown_name("element", symbol, chemical_symbols[1:]).split(" Known:")[0])
    amounts = {symbol: float(amount) if amount not in ("", ".") else 1.0 for symbol, amount in terms}
    if min(amounts.values()) <= 0:
        raise ValueError(f"{formula!r}: every amount must be positive")
    return amounts


def rocksalt(formula: str, *, repeat: tuple[int, int, int] = (4, 4, 4), lattice: float = 4.2) -> Sites:
    """Sites of a rocksalt: one sublattice of cations, one of anions; vacancies fill up cations that are too few.

    >>> sites = rocksalt("Li0.5MnO2", repeat=(1, 1, 1))
    >>> [one.symbols for one in sites.sublattices], len(sites.frame)
    ([('Li', 'Mn', 'X'), ('O',)], 8)

    Args:
        formula: such as LiMnO2 or Li1.2Mn0.8O1.8F0.2; as many cations as anions, or fewer.
        repeat: conventional cells of 4 cation and 4 anion sites along each axis.
        lattice: constant a of the conventional cell in Å.

    Raises:
        ValueError: no formula, no cation or no anion, more cations than anions, or a size without meaning.
    """
    amounts = parse_formula(formula)
    anions = {symbol: n for symbol, n in amounts.items() if symbol in ANIONS}
    cations = {symbol: n for symbol, n in amounts.items() if symbol not in ANIONS}
    if not anions or not cations:
        raise ValueError(f"a rocksalt needs cations and anions ({', '.join(ANIONS)}), got {formula!r}")
    missing = sum(anions.values()) - sum(cations.values())
    if missing < -1e-6 * sum(anions.values()):
        raise ValueError(f"{formula!r} has more cations than anions: a rocksalt has one site for each")
    if min(repeat) < 1 or not (np.isfinite(lattice) and lattice > 0):
        raise ValueError(f"repeat and lattice must be positive, got {repeat} and {lattice}")
    vacancy = ("X",) if missing > 1e-6 * sum(anions.values()) else ()
    frame = ase.build.bulk("MgO", "rocksalt", a=lattice, cubic=True).repeat(repeat)
    on_cations = frame.symbols == "Mg"
    parts = ((*cations, *vacancy), np.flatnonzero(on_cations)), (tuple(anions), np.flatnonzero(~on_cations))
    return Sites(frame, tuple(Sublattice(symbols, sites) for symbols, sites in parts))


def sites_of(frame: ase.Atoms, exchange: Mapping[str, Sequence[str]]) -> Sites:
    """Sites of any crystal, such as a spinel or a layered oxide: atoms of an element form a sublattice.

    >>> from jaxmlip.cathodes import layered
    >>> sites = sites_of(layered("Co"), {"Li": ("Li", "X")})
    >>> {one.symbols for one in sites.sublattices} == {("Li", "X"), ("Co",), ("O",)}
    True

    Args:
        frame: with an atom on every site.
        exchange: for an element of ``frame``, the species allowed on its sites; elements that name the same species
            share a sublattice, elements that are not named keep their sites.

    Raises:
        ValueError: an element that the frame does not hold, or no species.
    """
    present = list(dict.fromkeys(frame.get_chemical_symbols()))
    for symbol, allowed in exchange.items():
        if symbol not in present:
            raise ValueError(unknown_name("element of the frame", symbol, present))
        if not allowed or any(one not in atomic_numbers for one in allowed):
            raise ValueError(f"{symbol}: name the species allowed on its sites, X for a vacancy; got {tuple(allowed)}")
    kinds: dict[tuple[str, ...], list[str]] = {}
    for symbol in present:
        kinds.setdefault(tuple(exchange.get(symbol, (symbol,))), []).append(symbol)
    parts = [
        Sublattice(allowed, np.flatnonzero(np.isin(frame.get_chemical_symbols(), own)))
        for allowed, own in kinds.items()
    ]
    return Sites(frame.copy(), tuple(parts))


def random_numbers(sites: Sites, amounts: Mapping[str, int | float], seed: int = 0) -> Integer[np.ndarray, " n_sites"]:
    """Atomic numbers on all sites, at random; their counts are those nearest to ``amounts`` (largest remainders).

    Vacancies take what is left over on a sublattice that allows them.

    >>> sites = rocksalt("LiMnO2", repeat=(2, 2, 2))
    >>> np.bincount(random_numbers(sites, {"Li": 1, "Mn": 1, "O": 2}))[[3, 8, 25]].tolist()
    [16, 32, 16]

    Args:
        sites: of the cell.
        amounts: of each species, of any sum; taken within each sublattice.
        seed: of the arrangement.

    Raises:
        ValueError: a sublattice without any species of ``amounts``.
    """
    rng = np.random.default_rng(seed)
    numbers = np.zeros(len(sites.frame), int)
    most = max(sum(amounts.get(s, 0.0) for s in one.symbols) / len(one.sites) for one in sites.sublattices)
    for one in sites.sublattices:
        shares = np.array([amounts.get(symbol, 0.0) for symbol in one.symbols], float)
        if "X" in one.symbols and "X" not in amounts:
            shares[one.symbols.index("X")] = max(0.0, most * len(one.sites) - shares.sum())
        if not shares.sum() > 0:
            raise ValueError(f"no amount given for any of {', '.join(one.symbols)}")
        exact = shares / shares.sum() * len(one.sites)
        counts = np.floor(exact + 1e-9).astype(int)
        counts[np.argsort(counts - exact, kind="stable")[: len(one.sites) - counts.sum()]] += 1
        kinds = np.repeat([atomic_numbers[symbol] for symbol in one.symbols], counts)
        numbers[one.sites] = rng.permutation(kinds)
    return numbers


def occupied(sites: Sites, numbers: Integer[np.ndarray, " n_sites"], *, lattice_scale: float = 1.0) -> ase.Atoms:
    """The structure of an occupation: atoms on their ideal sites, nothing where a vacancy is.

    >>> sites = rocksalt("LiMnO2", repeat=(1, 1, 1))
    >>> occupied(sites, random_numbers(sites, {"Li": 1, "Mn": 1, "O": 2})).get_chemical_formula()
    'Li2Mn2O4'
    """
    cell: Float[np.ndarray, "3 3"] = sites.frame.cell.array * lattice_scale
    kept = np.asarray(numbers) != 0
    return ase.Atoms(np.asarray(numbers)[kept], sites.frame.positions[kept] * lattice_scale, cell=cell, pbc=True)
