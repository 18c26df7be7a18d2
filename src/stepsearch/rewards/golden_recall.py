"""Which of the golden documents an episode found."""

from collections.abc import Sequence

from stepsearch.types import Passage, SearchStep


def golden_recall(golden_passages: Sequence[Passage], steps: Sequence[SearchStep]) -> float | None:
    """Return the share of golden passages that were retrieved; None without any."""
    if not golden_passages:
        return None
    retrieved = [passage for step in steps for passage in step.passages]
    return len(found_golden(golden_passages, retrieved)) / len(golden_passages)


def found_golden(golden_passages: Sequence[Passage], retrieved: Sequence[Passage]) -> list[Passage]:
    """Return the golden passages that were retrieved: by id, or with the very same body.

    An engine that returns texts knows neither ids nor titles.
    """
    ids = {passage.id for passage in retrieved}
    bodies = {passage.text for passage in retrieved}
    return [passage for passage in golden_passages if passage.id in ids or passage.text in bodies]
