"""Sums of products of two rows by lists, z_c = Σ f x_a y_b, and their derivatives of any order without a scatter.

The lists say a form W = Σ f x_a y_b z_c. A sum of products is its derivative by one of the three, and what derivatives
of a sum hand back are the derivatives of W by the others: always sums of products, for which a table says which terms
make a row. Atoms run fastest in memory, so that a processor works on several at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Integer

_WIDER = 1.25
"""Rows whose numbers of terms differ by less than this are summed together."""
_UNROLL = 4
_FEWEST = 16  # atoms; XLA makes slow programs for fewer (86 instead of 26 µs/atom for 8, SNAP of twojmax 8)


@dataclass(frozen=True, eq=False)
class Form:
    """W = Σ factors · x[first] · y[second] · z[result]."""

    first: Integer[np.ndarray, " n_terms"]
    """Rows of x."""
    second: Integer[np.ndarray, " n_terms"]
    """Rows of y."""
    result: Integer[np.ndarray, " n_terms"]
    """Rows of z."""
    factors: Float[np.ndarray, " n_terms"]
    """f; rows may occur together several times."""
    sizes: tuple[int, int, int]
    """Rows of x, y and z."""


def bilinear(
    x: Float[Array, "n_first n_atoms"], y: Float[Array, "n_second n_atoms"], form: Form
) -> Float[Array, "n_results n_atoms"]:
    """z_c = Σ f x_a y_b of all terms whose result is c: ∂W/∂z. Differentiable any number of times, either way.

    >>> form = Form(np.array([0, 1]), np.array([0, 0]), np.array([0, 0]), np.array([1.0, 2.0]), (2, 1, 1))
    >>> bilinear(jnp.array([[1.0], [2.0]]), jnp.array([[3.0]]), form).tolist()
    [[15.0]]
    """
    return _derivative.bind(x, y, form=form, by=2)


class _Terms(NamedTuple):
    """Rows of sums Σ factors · x[first] · y[second], padded with zeros to the same number of terms."""

    first: Integer[np.ndarray, "n_terms n_rows"]
    second: Integer[np.ndarray, "n_terms n_rows"]
    factors: Float[np.ndarray, "n_terms n_rows"]


class _Tables(NamedTuple):
    """All rows: tables of few terms and of many, and where each row stands among the rows of all."""

    terms: tuple[_Terms, ...]
    order: Integer[np.ndarray, " n_rows"]


@lru_cache(maxsize=256)
def _tables(form: Form, by: int) -> _Tables:
    """For the derivative of the form by x, y or z, of the two others in this order."""
    lists, n_rows = (form.first, form.second, form.result), form.sizes[by]
    row, (first, second) = lists[by], (lists[slot] for slot in range(3) if slot != by)
    counts = np.bincount(row, minlength=n_rows)
    by_count = np.argsort(counts, kind="stable")
    order = np.argsort(by_count).astype(np.int32)
    entries = np.argsort(order[row], kind="stable")
    parts = _split(counts[by_count], order[row][entries], (first[entries], second[entries], form.factors[entries]))
    return _Tables(tuple(parts), order)


def _split(counts: np.ndarray, row: np.ndarray, entries: tuple[np.ndarray, ...]) -> Iterator[_Terms]:
    """Rows with about as many terms each, from few to many; ``row`` rises, and of row r there are ``counts[r]``."""
    place, begin = np.arange(row.size) - (np.cumsum(counts) - counts)[row], 0
    kind = np.uint16 if max((int(x.max(initial=0)) for x in entries[:2]), default=0) < 2**16 else np.uint32
    while begin < counts.size:
        end = int(np.searchsorted(counts, max(_UNROLL, _WIDER * counts[begin]), side="right"))
        shape = (-(-int(counts[end - 1]) // _UNROLL) * _UNROLL, end - begin)
        table = _Terms(np.zeros(shape, kind), np.zeros(shape, kind), np.zeros(shape))
        own = slice(*np.searchsorted(row, [begin, end]))
        for values, entry in zip(table, entries, strict=True):
            values[place[own], row[own] - begin] = entry[own]
        yield table
        begin = end


def _evaluated(x: Array, y: Array, *, form: Form, by: int) -> Array:
    """The derivative of the form by one of the three: Σ factors · x[first] · y[second], row by row."""
    of = _tables(form, by)
    n_atoms, more = x.shape[1], max(0, _FEWEST - x.shape[1])
    if more:
        x, y = (jnp.pad(part, ((0, 0), (0, more))) for part in (x, y))
    return jnp.concatenate([_rows(x, y, terms) for terms in of.terms])[of.order, :n_atoms]


def _rows(x: Array, y: Array, terms: _Terms) -> Array:
    """Those of one table."""

    def product(term: _Terms) -> Array:
        return x[term.first] * y[term.second] * term.factors

    terms = terms._replace(factors=terms.factors.astype(x.dtype)[..., None])
    if jax.default_backend() != "cpu":
        return jnp.sum(product(terms), axis=0)
    start = jnp.zeros((terms.first.shape[1], x.shape[1]), x.dtype)
    found, _ = jax.lax.scan(lambda total, term: (total + product(term), None), start, terms, unroll=_UNROLL)
    return jnp.asarray(found)


def _batched(args: tuple, axes: tuple, *, form: Form, by: int) -> tuple[Array, int]:
    """More atoms."""
    n = next(x.shape[axis] for x, axis in zip(args, axes, strict=True) if axis is not None)
    x, y = (
        jnp.broadcast_to(part[..., None], (*part.shape, n)) if axis is None else jnp.moveaxis(part, axis, -1)
        for part, axis in zip(args, axes, strict=True)
    )
    found = _derivative.bind(x.reshape(len(x), -1), y.reshape(len(y), -1), form=form, by=by)
    return found.reshape(len(found), -1, n), 2


def _handed_back(which: int) -> Callable:
    """The cotangent of the first or second argument: the derivative of W by it."""

    def rule(cotangent: Any, x: Any, y: Any, *, form: Form, by: int) -> Any:
        arguments = [slot for slot in range(3) if slot != by]
        known = {by: cotangent, arguments[1 - which]: (y, x)[which]}
        return _derivative.bind(*(known[slot] for slot in sorted(known)), form=form, by=arguments[which])

    return rule


_derivative = Primitive("bilinear")
_derivative.def_impl(lambda x, y, **of: _evaluated(jnp.asarray(x), jnp.asarray(y), **of))
_derivative.def_abstract_eval(lambda x, y, *, form, by: x.update(shape=(form.sizes[by], x.shape[-1])))
mlir.register_lowering(_derivative, mlir.lower_fun(_evaluated, multiple_results=False))
batching.primitive_batchers[_derivative] = _batched
ad.defbilinear(_derivative, _handed_back(0), _handed_back(1))
