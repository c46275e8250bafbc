"""Active learning: the potential asks for the calculations that it needs.

Each round fits, explores with what it fitted, stops where that leaves its data, selects, and labels. `learn` is the
whole; `uncertainty`, `choose` and `label_all` are its parts, for loops of one's own.
"""

from jaxmlip.learning.active.choice import choose
from jaxmlip.learning.active.explorers import EXPLORERS, Exploring
from jaxmlip.learning.active.labellers import Failure, Told, label_all
from jaxmlip.learning.active.loop import Learned, learn
from jaxmlip.learning.active.settings import Doubt, Explorer, Labelling, Learning
from jaxmlip.learning.active.uncertainty import Fitted, Uncertainty, uncertainty

__all__ = ["EXPLORERS", "Doubt", "Explorer", "Exploring", "Failure", "Fitted", "Labelling", "Learned", "Learning"]
__all__ += ["Told", "Uncertainty", "choose", "label_all", "learn", "uncertainty"]
