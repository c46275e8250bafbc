"""Writing torch's checkpoint files without torch: the inverse of `torch_zip`, with the few classes that those need.

References:
    torch 2 ``torch.serialization``; Python's ``pickletools`` (protocol 2).
"""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmlip.files import atomic_path
from jaxmlip.formats.torch_pickle import STORAGES

_NAMES = {dtype: name for name, dtype in STORAGES.items()}
_DATE = (1980, 1, 1, 0, 0, 0)  # equal models make equal files


def write_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Write ``content`` (dicts, lists, tuples, text, numbers, arrays) so that ``torch.load`` reads it.

    Raises:
        TypeError: a value of another kind.
    """
    pickle = _Pickle()
    pickle.value(content)
    body = b"\x80\x02" + bytes(pickle.code) + b"."
    folder = Path(path).stem
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        entries = {"data.pkl": body, "byteorder": b"little"}
        entries |= {f"data/{k}": array.tobytes() for k, array in enumerate(pickle.arrays)}
        for name, data in {**entries, "version": b"3\n"}.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}", _DATE), data)


class _Pickle:
    """Instructions, and the arrays that they refer to."""

    def __init__(self) -> None:
        self.code = bytearray()
        self.arrays: list[np.ndarray] = []

    def value(self, x: Any) -> None:
        """Instructions that put ``x`` on the stack."""
        if isinstance(x, np.generic):
            x = x.item()
        if x is None or isinstance(x, bool):
            self.code += {None: b"N", True: b"\x88", False: b"\x89"}[x]
        elif isinstance(x, int):
            self.code += b"J" + struct.pack("<i", x)
        elif isinstance(x, float):
            self.code += b"G" + struct.pack(">d", x)
        elif isinstance(x, str):
            self.code += b"X" + struct.pack("<I", len(x.encode())) + x.encode()
        elif isinstance(x, Mapping):
            self.code += b"}("
            self.values([item for pair in x.items() for item in pair])
            self.code += b"u"
        elif isinstance(x, (list, tuple)):
            self.code += b"](" if isinstance(x, list) else b"("
            self.values(x)
            self.code += b"e" if isinstance(x, list) else b"t"
        elif isinstance(x, np.ndarray):
            self.tensor(x)
        else:
            raise TypeError(f"a checkpoint cannot hold a {type(x).__name__}")

    def values(self, items: Any) -> None:
        """Several values."""
        for item in items:
            self.value(item)

    def tensor(self, x: np.ndarray) -> None:
        """``torch._utils._rebuild_tensor_v2`` of a storage of its own."""
        x = np.asarray(x, order="C")
        dtype = x.dtype.newbyteorder("<")
        strides = tuple(step // x.itemsize for step in x.strides) if x.size else (1,) * x.ndim
        self.code += b"ctorch._utils\n_rebuild_tensor_v2\n(("
        self.value("storage")
        self.code += f"ctorch\n{_NAMES[dtype.str]}\n".encode()
        self.values((str(len(self.arrays)), "cpu", x.size))
        self.code += b"tQ"
        self.values((0, x.shape, strides, False))
        self.code += b"ccollections\nOrderedDict\n)RtR"
        self.arrays.append(x.astype(dtype))
