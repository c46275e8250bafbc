"""Machine-learned interatomic potentials as pure JAX functions: one pipeline from DFT data to a cathode voltage.

Names are imported when they are used, so that ``import jaxmlip`` costs nothing and changes nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "read": "jaxmlip.data",
    "write": "jaxmlip.data",
    "batch": "jaxmlip.graph",
    "batches": "jaxmlip.graph",
    "Graph": "jaxmlip.graph",
    "FAMILIES": "jaxmlip.potentials",
    "Model": "jaxmlip.potentials",
    "Potential": "jaxmlip.potentials",
    "build": "jaxmlip.potentials",
    "predict": "jaxmlip.potentials",
    "fit": "jaxmlip.fitting",
    "load": "jaxmlip.formats",
    "save": "jaxmlip.formats",
    "calculator": "jaxmlip.simulate",
}

__all__ = ["FAMILIES", "Graph", "Model", "Potential", "batch", "batches", "build", "calculator", "datasets"]
__all__ += ["fit", "load", "predict", "read", "save", "write"]

if TYPE_CHECKING:
    from jaxmlip import datasets as datasets
    from jaxmlip.data import read as read
    from jaxmlip.data import write as write
    from jaxmlip.fitting import fit as fit
    from jaxmlip.formats import load as load
    from jaxmlip.formats import save as save
    from jaxmlip.graph import Graph as Graph
    from jaxmlip.graph import batch as batch
    from jaxmlip.graph import batches as batches
    from jaxmlip.potentials import FAMILIES as FAMILIES
    from jaxmlip.potentials import Model as Model
    from jaxmlip.potentials import Potential as Potential
    from jaxmlip.potentials import build as build
    from jaxmlip.potentials import predict as predict
    from jaxmlip.simulate import calculator as calculator


def __getattr__(name: str) -> Any:
    if name == "datasets":
        return import_module("jaxmlip.datasets")
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxmlip' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "datasets"])
