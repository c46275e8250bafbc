"""Checkpoints of a training run: one file, written whole or not at all, refused where it does not belong."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import flax.serialization
import jax
import numpy as np

from jaxmlip.config import to_mapping
from jaxmlip.data.labels import labels
from jaxmlip.data.packed import PackedData
from jaxmlip.data.weights import frame_sigmas, frame_weights
from jaxmlip.files import atomic_path
from jaxmlip.fitting.frame_weights import group_of

_FILE = "checkpoint.msgpack"
_FORMAT = 2  # raise when the meaning of what is kept changes
_HOW = ("workers", "checkpoint_every", "checkpoint_steps")  # settings that no number depends on


Rows = list[dict[str, Any]]


def save_checkpoint(folder: Path, key: str, state: Any, rows: Rows) -> None:
    """Write ``state``, a pytree of arrays and numbers, and the log so far; `load_checkpoint` gives the same bits."""
    host = jax.tree.map(np.asarray, state)
    content = {"key": key, "state": flax.serialization.to_state_dict(host), "rows": json.dumps(rows)}
    with atomic_path(folder / _FILE) as temporary:
        temporary.write_bytes(flax.serialization.msgpack_serialize(content))


def load_checkpoint(folder: Path, key: str, state: Any) -> tuple[Any, Rows] | None:
    """The state in ``folder`` in the form of ``state``, and the log; None if there is none.

    Raises:
        ValueError: the checkpoint is damaged, or is of another run.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        content: Any = flax.serialization.msgpack_restore(path.read_bytes())
        found = content["key"]
    except Exception as error:
        raise ValueError(f"{path} is damaged ({error}): delete it to start again") from None
    if found != key:
        raise ValueError(
            f"{path} belongs to a run with other data, settings or potential, or of an earlier version: give another "
            "folder, or delete it to start again"
        )
    return flax.serialization.from_state_dict(state, content["state"]), json.loads(content["rows"])


def run_key(config: Any, settings: Any, atoms: Sequence[Sequence[ase.Atoms]], start: Any) -> str:
    """A hash of everything that the numbers of a run depend on; how often it is saved does not count."""
    digest = hashlib.sha256()
    values = {name: value for name, value in to_mapping(settings).items() if name not in _HOW}
    facts = [_FORMAT, type(config).__name__, dataclasses.asdict(config), type(settings).__name__, values]
    digest.update(json.dumps(facts, sort_keys=True, default=repr).encode())
    for part in (part for part in atoms if isinstance(part, PackedData)):
        digest.update(part.fingerprint.encode())
    for frame in (frame for part in atoms if not isinstance(part, PackedData) for frame in part):
        arrays = (frame.numbers, frame.positions, frame.cell.array, frame.pbc)
        for array in (*arrays, *(x for x in labels(frame) if x is not None)):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr((frame_weights(frame), frame_sigmas(frame), group_of(frame, settings))).encode())
    for leaf in jax.tree.leaves(start):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:32]
