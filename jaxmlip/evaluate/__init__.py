"""How good a model is: predictions for data, errors, parity figures, reports."""

from jaxmlip.evaluate.errors import ErrorTable, errors, rich_table
from jaxmlip.evaluate.parity import parity, parity_figure
from jaxmlip.evaluate.predictions import Predicted, predict_atoms

__all__ = ["ErrorTable", "Predicted", "errors", "parity", "parity_figure", "predict_atoms", "rich_table"]
