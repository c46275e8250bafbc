"""The families of potentials, each a factory from its settings to pure functions, in one open table."""

from jaxmlip.potentials.base import (
    Config,
    Inner,
    Kernel,
    Linear,
    Params,
    Potential,
    Products,
    Regressor,
    factory,
)
from jaxmlip.potentials.linear_stages import linear_energies
from jaxmlip.potentials.model import Model, Prediction, predict
from jaxmlip.potentials.predictions import Predicted, descriptors, predict_atoms
from jaxmlip.potentials.presets import Preset
from jaxmlip.potentials.registry import FAMILIES, Family, Format, build, family_of, register, suggested, trainable
from jaxmlip.potentials.tabulated import tabulated

__all__ = ["FAMILIES", "Config", "Family", "Format", "Inner", "Kernel", "Linear", "Model", "Params", "Potential"]
__all__ += ["Predicted", "Prediction", "Preset", "Products", "Regressor", "build", "descriptors", "factory"]
__all__ += [
    "family_of",
    "linear_energies",
    "predict",
    "predict_atoms",
    "register",
    "suggested",
    "tabulated",
    "trainable",
]
