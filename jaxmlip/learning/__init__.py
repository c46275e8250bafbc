"""From a slow model to a fast one: structures made around seeds, labelled by a teacher, fitted by a student."""

from jaxmlip.learning.candidates import Around, around
from jaxmlip.learning.distillation import Distillation, Distilled, Place, Student, distil
from jaxmlip.learning.exploration import Exploration, labelled
from jaxmlip.learning.offsets import aligned
from jaxmlip.learning.selection import informative

__all__ = ["Around", "Distillation", "Distilled", "Exploration", "Place", "Student", "aligned", "around", "distil"]
__all__ += ["informative", "labelled"]
