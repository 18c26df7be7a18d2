"""Policies and critics: loading, saving, log-probabilities, values, and generation in process."""

from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.models.value_model import ValueModel

__all__ = ["InProcessEngine", "ModelTokenizer", "StepSearchModel", "ValueModel"]
