"""Torch's checkpoint files without torch: a zip with a pickle and the numbers of each tensor beside it.

Nothing of a file is executed (`torch_pickle`), and no size in it is trusted: entries must be stored without
compression, and all that is read together is never more than the file.

References:
    torch 2 ``torch.serialization``: ``NAME/data.pkl``, ``NAME/data/KEY`` (raw numbers), ``NAME/byteorder``.
"""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxmlip.formats.torch_pickle import ArrayState, Storage, Tensor, interpret

_MAX_PICKLE = 64 * 2**20  # bytes; SevenNet-0's has 44 kB


def read_checkpoint(path: str | Path) -> Any:
    """The object that ``torch.save`` wrote, with NumPy arrays for tensors.

    Raises:
        ValueError: not such a file, a damaged one, or one that holds more than numbers and settings.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path).content()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is not a torch checkpoint (no zip archive, or it is damaged): {error}") from None
    except ValueError as error:
        raise ValueError(f"{path} is refused: {error}") from None


class _Archive:
    """The entries of a checkpoint, each storage read once."""

    def __init__(self, archive: zipfile.ZipFile, path: Path):
        self.archive, self.left = archive, path.stat().st_size
        pickles = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise ValueError("a torch checkpoint has exactly one entry NAME/data.pkl; torch.save writes it so")
        self.folder = pickles[0].removesuffix("data.pkl")
        self.arrays: dict[Storage, np.ndarray] = {}

    def content(self) -> Any:
        """The pickled object with arrays in place."""
        order = f"{self.folder}byteorder"
        if order in self.archive.namelist() and self.read(order, 16).strip() != b"little":
            raise ValueError("its numbers are not little-endian")
        return self.filled(interpret(self.read(f"{self.folder}data.pkl", _MAX_PICKLE)))

    def read(self, name: str, limit: int) -> bytes:
        """An entry of at most ``limit`` bytes."""
        try:
            info = self.archive.getinfo(name)
        except KeyError:
            raise ValueError(f"the entry {name} is missing") from None
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"the entry {name} is compressed, which torch never does")
        if info.file_size > min(limit, self.left):
            raise ValueError(f"the entry {name} claims {info.file_size} bytes, more than there can be")
        self.left -= info.file_size
        return self.archive.read(info)

    def filled(self, value: Any, depth: int = 0) -> Any:
        """``value`` with arrays for tensors; containers are copied."""
        if depth > 50:
            raise ValueError("its settings are nested too deeply")
        if isinstance(value, Tensor):
            return self.tensor(value)
        if isinstance(value, ArrayState):
            return value.value
        if isinstance(value, dict):
            return {key: self.filled(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and not isinstance(value, Storage):
            return type(value)([self.filled(item, depth + 1) for item in value])
        return value

    def tensor(self, tensor: Tensor) -> np.ndarray:
        """The numbers of a tensor."""
        if tensor.storage not in self.arrays:
            self.arrays[tensor.storage] = self.storage(tensor.storage)
        numbers = self.arrays[tensor.storage]
        count = math.prod(tensor.shape)
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
        if count == 0:
            return np.empty(tensor.shape, numbers.dtype)
        if count > numbers.size or last >= numbers.size:
            raise ValueError(f"a tensor of shape {tensor.shape} does not fit its {numbers.size} numbers")
        strides = [step * numbers.itemsize for step in tensor.strides]
        return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides).copy()

    def storage(self, storage: Storage) -> np.ndarray:
        """All numbers of a storage."""
        dtype = np.dtype(storage.dtype)
        content = self.read(f"{self.folder}data/{storage.key}", storage.size * dtype.itemsize)
        if len(content) != storage.size * dtype.itemsize:
            raise ValueError(f"storage {storage.key} has {len(content)} bytes for {storage.size} numbers of {dtype}")
        return np.frombuffer(content, dtype)
