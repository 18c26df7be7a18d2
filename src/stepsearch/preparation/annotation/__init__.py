"""Search keys by a language model: sub-questions rewritten, reference queries written, and only good ones kept."""

from stepsearch.preparation.annotation.annotator import Annotation, AnnotationSettings, annotate
from stepsearch.preparation.annotation.drafts import GapNote
from stepsearch.preparation.annotation.estimate import Estimate, estimate
from stepsearch.preparation.annotation.tally import Tally

__all__ = ["Annotation", "AnnotationSettings", "Estimate", "GapNote", "Tally", "annotate", "estimate"]
