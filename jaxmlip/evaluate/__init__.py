"""How good a model is: predictions for data, errors, parity figures, reports."""

from jaxmlip.evaluate.errors import ErrorTable, errors, rich_table
from jaxmlip.evaluate.grade import GradeMonitor, active_set, grades, load_active_set, save_active_set, select
from jaxmlip.evaluate.parity import parity, parity_figure
from jaxmlip.evaluate.style import save_figure
from jaxmlip.evaluate.training_curve import training_figure
from jaxmlip.potentials.predictions import Predicted, predict_atoms

__all__ = ["ErrorTable", "Predicted", "errors", "parity", "parity_figure", "predict_atoms", "rich_table"]
__all__ += ["GradeMonitor", "active_set", "grades", "load_active_set", "save_active_set", "save_figure", "select"]
__all__ += ["training_figure"]
