"""Comparisons of potentials over training-set sizes, with a report."""

from jaxmlip.study.config import Method, StudyConfig
from jaxmlip.study.run import StudyResult, run_study

__all__ = ["Method", "StudyConfig", "StudyResult", "run_study"]
