"""From raw files to what training reads."""

from stepsearch.preparation.pipeline import PreparationReport, prepare

__all__ = ["PreparationReport", "prepare"]
