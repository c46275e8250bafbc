"""The pickle inside a torch checkpoint as plain data: a small interpreter that executes nothing.

A pickle is a program for a stack machine, and Python's own reader calls whatever it names. Checkpoints use some thirty
of its instructions and a handful of classes; these are interpreted here, everything else is refused.

References:
    Python's ``pickletools`` (instructions); torch 2 ``torch.serialization`` (what a checkpoint holds).
"""

import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
"""Types of numbers by torch's names."""
_MAX_INSTRUCTIONS = 2_000_000  # SevenNet's have some 10⁴


class PickleError(ValueError):
    """A pickle that holds what no checkpoint needs."""


class Storage(NamedTuple):
    """A block of numbers that lies beside the pickle."""

    key: str
    dtype: str
    size: int


class Tensor(NamedTuple):
    """A strided view of a storage; offset and strides count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Global(NamedTuple):
    name: str  # as module and name in one


class ArrayState:
    """An array or a type of NumPy; its state is read after the first reference to it."""

    def __init__(self, dtype: str | None = None):
        self.dtype = dtype
        self.value: np.ndarray | None = None


def interpret(pickle: bytes) -> Any:
    r"""The object of a checkpoint's pickle: dicts, lists, tuples, numbers, text, `Tensor` and `ArrayState` records.

    >>> interpret(b"}(X\x01\x00\x00\x00aK\x01u.")
    {'a': 1}

    Raises:
        PickleError: an instruction or class that is not on the list, or a damaged pickle.
    """
    machine = _Machine()
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(pickle)):
            if count > _MAX_INSTRUCTIONS:
                raise PickleError(f"the pickle has more than {_MAX_INSTRUCTIONS} instructions")
            machine.step(code.name, argument)
        return machine.stack[-1]
    except PickleError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError) as error:
        raise PickleError(f"the pickle is damaged: {type(error).__name__} {error}") from None


class _Machine:
    """The stack, the memo, and where the current group began."""

    def __init__(self):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Perform one instruction."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            self.stack.append(argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise PickleError(f"the pickle uses the instruction {name}, which no checkpoint needs")

    def pop(self, n: int) -> list[Any]:
        """The topmost ``n`` values."""
        if n > len(self.stack):
            raise PickleError("the pickle is damaged: its stack is empty")
        values = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return values

    def group(self) -> list[Any]:
        """All values since the last mark."""
        return self.pop(len(self.stack) - self.marks.pop())

    def put(self, values: list[Any], change: Callable[[Any, list[Any]], None], kind: type) -> None:
        """Add ``values`` to the list or dict below them."""
        if type(self.stack[-1]) is not kind:
            raise PickleError(f"the pickle is damaged: it fills a {type(self.stack[-1]).__name__}")
        change(self.stack[-1], values)


def _mark(machine: _Machine, argument: Any) -> None:
    machine.marks.append(len(machine.stack))


def _global(machine: _Machine, argument: str) -> None:
    name = argument.replace(" ", ".")
    if name not in _REDUCE and name.removeprefix("torch.") not in STORAGES and name != "numpy.ndarray":
        raise PickleError(f"the pickle names {name}, which is not on the list of what a checkpoint may hold")
    machine.stack.append(_Global(name))


def _reduce(machine: _Machine, argument: Any) -> None:
    function, arguments = machine.pop(2)
    if not isinstance(function, _Global) or function.name not in _REDUCE:
        raise PickleError(f"the pickle calls {function!r}, which is not on the list")
    machine.stack.append(_REDUCE[function.name](*arguments))


def _build(machine: _Machine, argument: Any) -> None:
    target, state = machine.pop(2)
    if isinstance(target, ArrayState) and target.dtype is None:
        _, shape, dtype, fortran, content = state
        found = np.frombuffer(content, _plain_dtype(dtype.dtype))
        if found.size != np.prod(shape, dtype=object):
            raise PickleError(f"an array of shape {shape} has {found.size} numbers")
        target.value = found.reshape(shape, order="F" if fortran else "C").copy()
    machine.stack.append(target)  # the attributes of a dict (torch's _metadata) are of no use here


def _persistent(machine: _Machine, argument: Any) -> None:
    kind, storage, key, _, size = machine.pop(1)[0]
    name = storage.name.removeprefix("torch.")
    if kind != "storage" or name not in STORAGES or type(key) is not str or type(size) is not int:
        raise PickleError(f"the pickle refers to {kind!r} {key!r}, not to a storage of numbers")
    machine.stack.append(Storage(key, STORAGES[name], size))


def _pairs(target: dict, values: list[Any]) -> None:
    for key, value in zip(values[::2], values[1::2], strict=True):
        if type(key) not in (str, int, float, bool, type(None)):
            raise PickleError(f"a dict has a {type(key).__name__} as key")
        target[key] = value


def _tensor(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise PickleError("the pickle has a tensor without a storage")
    if not all(type(n) is int and 0 <= n < 2**48 for n in numbers) or len(shape) > 8:
        raise PickleError(f"the pickle has a tensor of shape {shape}")
    return Tensor(storage, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise PickleError("the pickle has a parameter that is no tensor")
    return data


def _ordered(pairs: Any = ()) -> dict:
    result: dict = {}
    _pairs(result, [x for pair in pairs for x in pair])
    return result


def _plain_dtype(name: str | None) -> np.dtype:
    dtype = np.dtype(str(name))
    if dtype.kind not in "fiub":
        raise PickleError(f"the pickle has an array of {dtype}")
    return dtype.newbyteorder("<")


def _scalar(dtype: ArrayState, content: bytes) -> Any:
    return np.frombuffer(content, _plain_dtype(dtype.dtype), 1)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise PickleError(f"the pickle has bytes in {encoding}")
    return text.encode("latin1")


def _tuple(n: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(tuple(machine.pop(n)))


def _append(machine: _Machine, argument: Any) -> None:
    machine.put(machine.pop(1), list.extend, list)


def _appends(machine: _Machine, argument: Any) -> None:
    machine.put(machine.group(), list.extend, list)


def _setitem(machine: _Machine, argument: Any) -> None:
    machine.put(machine.pop(2), _pairs, dict)


def _setitems(machine: _Machine, argument: Any) -> None:
    machine.put(machine.group(), _pairs, dict)


def _store(machine: _Machine, argument: int) -> None:
    machine.memo[argument] = machine.stack[-1]


def _memoize(machine: _Machine, argument: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _fetch(machine: _Machine, argument: int) -> None:
    machine.stack.append(machine.memo[argument])


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_VALUES |= {"BINBYTES", "SHORT_BINBYTES"}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _mark, "GLOBAL": _global, "REDUCE": _reduce, "BUILD": _build, "BINPERSID": _persistent,
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.group())),
    "TUPLE1": _tuple(1), "TUPLE2": _tuple(2), "TUPLE3": _tuple(3),
    "APPEND": _append, "APPENDS": _appends, "SETITEM": _setitem, "SETITEMS": _setitems,
    "BINPUT": _store, "LONG_BINPUT": _store, "MEMOIZE": _memoize, "BINGET": _fetch, "LONG_BINGET": _fetch,
}  # fmt: skip
_REDUCE: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.device": lambda name, *_: str(name),
    "numpy.dtype": lambda name, *_: ArrayState(name),
    "numpy.core.multiarray._reconstruct": lambda *_: ArrayState(),
    "numpy._core.multiarray._reconstruct": lambda *_: ArrayState(),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _encode,
}
