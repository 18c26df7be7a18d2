"""How many of the golden documents an episode found."""

from collections.abc import Sequence

from stepsearch.types import Passage, SearchStep


def golden_recall(golden_passages: Sequence[Passage], steps: Sequence[SearchStep]) -> float | None:
    """Return the share of golden passages that were retrieved, by id or with the very same body; None without any."""
    if not golden_passages:
        return None
    retrieved = [passage for step in steps for passage in step.passages]
    ids = {passage.id for passage in retrieved}
    bodies = {passage.text for passage in retrieved}
    found = sum(passage.id in ids or passage.text in bodies for passage in golden_passages)
    return found / len(golden_passages)
