"""Comparisons of potentials over training-set sizes, with a report."""

from jaxmlip.study.config import StudyConfig, StudyMethod
from jaxmlip.study.run import StudyResult, run_study

__all__ = ["StudyConfig", "StudyMethod", "StudyResult", "run_study"]
