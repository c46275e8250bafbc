"""Entries of pacemaker's files, each checked as it is read: a file is not trusted."""

import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

from jaxmlip.descriptors.cluster_functions import Function, momenta
from jaxmlip.formats.ace_products import ProductGroup

_LARGEST = 10_000  # n, l, numbers of functions of a bond: more is damage


class Fields(NamedTuple):
    """A mapping of a file and where it stands, for messages."""

    values: Any
    where: str

    def error(self, name: str, problem: str) -> ValueError:
        """The message that an entry is wrong."""
        return ValueError(f"{self.where}: {name} {problem}")

    def get(self, name: str, default: Any = None) -> Any:
        """An entry, or the ``default``."""
        if not isinstance(self.values, dict):
            raise ValueError(f"{self.where}: expected names and values, got {type(self.values).__name__}")
        if self.values.get(name) is None:
            if default is None:
                raise self.error(name, "is missing")
            return default
        return self.values[name]

    def text(self, name: str, default: str | None = None) -> str:
        """A word, or several."""
        value = self.get(name, default)
        if not isinstance(value, str):
            raise self.error(name, f"must be text, got {value!r}")
        return value

    def number(self, name: str, default: float | None = None, low: float = -math.inf) -> float:
        """A finite number."""
        return self._number(name, self.get(name, default), low)

    def integer(self, name: str, low: int) -> int:
        """A whole number."""
        return self._integer(name, self.get(name), low)

    def numbers(self, name: str, n: int | None, default: list[float] | None = None) -> list[float]:
        """A list of ``n`` numbers."""
        value = self.get(name, default)
        if not isinstance(value, list) or (n is not None and len(value) != n):
            raise self.error(name, f"must be a list of {'' if n is None else n} numbers, got {_short(value)}")
        return [self._number(name, x, -math.inf) for x in value]

    def integers(self, name: str, n: int | None, low: int = -_LARGEST) -> tuple[int, ...]:
        """A list of ``n`` whole numbers."""
        value = self.get(name)
        if not isinstance(value, list) or (n is not None and len(value) != n):
            raise self.error(name, f"must be a list of {'' if n is None else n} whole numbers, got {_short(value)}")
        return tuple(self._integer(name, x, low) for x in value)

    def parts(self, name: str, default: list | None = None) -> "list[Fields]":
        """A list of mappings."""
        value = self.get(name, default)
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, got {_short(value)}")
        return [Fields(one, f"{self.where}, {name} {k}") for k, one in enumerate(value, 1)]

    def by_key(self, name: str, n: int, n_elements: int, *, lists: bool = False) -> dict[tuple[int, ...], Any]:
        """A mapping of ``n`` element numbers each to a mapping, or to a list of mappings."""
        found = self.get(name)
        if not isinstance(found, dict):
            raise self.error(name, f"must map elements to values, got {_short(found)}")
        result: dict[tuple[int, ...], Any] = {}
        for key, value in found.items():
            numbers = key if isinstance(key, tuple) else (key,)
            if len(numbers) != n or not all(_is_integer(k) and 0 <= k < n_elements for k in numbers):
                raise self.error(name, f"has the key {key!r}: expected {n} numbers of elements below {n_elements}")
            one = Fields({name: value} if lists else value, f"{self.where}, {name} {key}")
            result[numbers] = one.parts(name) if lists else one
        return result

    def radial(self, n_max: int, l_max: int, n_basis: int) -> np.ndarray:
        """``radcoefficients`` as c[n, l, k]: nested, or flat with l fastest, then n."""
        try:
            c = np.array(self.get("radcoefficients", [[]]), float)
        except (ValueError, TypeError):
            raise self.error("radcoefficients", "is no table of numbers") from None
        shape = (n_max, l_max + 1, n_basis)
        if c.ndim == 1 and c.size == n_max * (l_max + 1) * n_basis:
            c = c.reshape(n_basis, n_max, l_max + 1).transpose(1, 2, 0)
        if n_max == 0:
            c = np.zeros(shape)
        if c.shape != shape or not np.isfinite(c).all():
            raise self.error("radcoefficients", f"must be finite numbers of shape {shape}, got {c.shape}")
        return c

    def products(self, centre: int, n_elements: int, n_densities: int) -> ProductGroup:
        """An entry of ``functions`` of a ``.yace``."""
        rank, n = self.integer("rank", 1), self.integer("num_ms_combs", 0)
        mus, ns, ls = (self.integers(name, rank, low) for name, low in (("mus", 0), ("ns", 1), ("ls", 0)))
        if max(mus) >= n_elements or self.get("mu0") != centre or self.get("ndensity") != n_densities:
            raise self.error("mu0, mus or ndensity", f"do not fit element {centre} of {n_elements}")
        ms = np.array(self.integers("ms_combs", n * rank), int).reshape(n, rank)
        if (np.abs(ms) > np.array(ls)[None]).any():
            raise self.error("ms_combs", f"has |m| above l = {list(ls)}")
        c = np.array(self.numbers("ctildes", n * n_densities)).reshape(n, n_densities)
        return ProductGroup(mus, tuple(k - 1 for k in ns), ls, ms, c)

    def checked(self, function: Function) -> Function:
        """The function, which can be coupled."""
        try:
            momenta(function.ls, function.couplings)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None
        return function

    def _number(self, name: str, value: Any, low: float) -> float:
        try:
            number = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if not math.isfinite(number) or number < low:
            limit = f" from {low:g} on" if low > -math.inf else ""
            raise self.error(name, f"must be a finite number{limit}, got {_short(value)}")
        return number

    def _integer(self, name: str, value: Any, low: int) -> int:
        if not _is_integer(value) or not low <= value <= _LARGEST:
            raise self.error(name, f"must be a whole number {low} … {_LARGEST}, got {_short(value)}")
        return value


def _is_integer(value: Hashable) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}…"
