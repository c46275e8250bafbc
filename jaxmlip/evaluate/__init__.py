"""How good a model is: predictions for data, errors, parity figures, reports."""

from jaxmlip.evaluate.errors import ErrorTable, errors, rich_table
from jaxmlip.evaluate.parity import parity, parity_figure
from jaxmlip.evaluate.predictions import Predicted, predict_atoms
from jaxmlip.evaluate.style import save_figure
from jaxmlip.evaluate.training_curve import training_figure

__all__ = ["ErrorTable", "Predicted", "errors", "parity", "parity_figure", "predict_atoms", "rich_table"]
__all__ += ["save_figure", "training_figure"]
