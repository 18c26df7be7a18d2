"""Reciprocal-rank fusion: several rankings made into one (Cormack, Clarke and Büttcher, 2009).

score(d) = sum over the rankings that hold d of 1 / (k + rank of d in it), ranks counted from 1, k = 60 in the paper.
Only ranks count, so that scores of different scales need no calibration.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from stepsearch.types import Passage

# The paper's k, which dampens the difference between high ranks.
RANK_CONSTANT = 60.0


def fuse(rankings: Sequence[Sequence[Passage]], rank_constant: float = RANK_CONSTANT) -> list[Passage]:
    """Return the passages of all rankings, best first, with their fused scores.

    Passages of equal title, text and image are one, whatever their ids: engines number their documents each in its own
    way. The one that came first, by ranking and then rank, is returned; so are equal scores ordered.
    """
    first: dict[tuple[str, str, str | None], Passage] = {}
    shares: dict[tuple[str, str, str | None], list[float]] = {}
    for ranking in rankings:
        distinct = dict.fromkeys(_content(passage) for passage in ranking)
        for passage in ranking:
            first.setdefault(_content(passage), passage)
        for rank, content in enumerate(distinct, start=1):
            shares.setdefault(content, []).append(1 / (rank_constant + rank))
    fused = [replace(passage, score=math.fsum(shares[content])) for content, passage in first.items()]
    return sorted(fused, key=lambda passage: -(passage.score or 0))


def _content(passage: Passage) -> tuple[str, str, str | None]:
    return passage.title.strip(), passage.text.strip(), passage.image
