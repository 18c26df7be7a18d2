"""What makes vectors of queries and passages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stepsearch.types import Passage

Vectors = NDArray[np.float32]

Item = TypeVar("Item")


class Encoder(Protocol):
    """Makes vectors whose dot products say how well a passage fits a query.

    Attributes:
        facts: the settings of `search.dense` that decide the vectors, none of them left open.
        guards_itself: whether it tries again by itself.
    """

    facts: Mapping[str, Any]
    guards_itself: bool

    def encode_queries(self, queries: Sequence[str]) -> Vectors:
        """Return a vector per query: [queries, dimensions]."""
        ...

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        """Return a vector per passage: [passages, dimensions]."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


def passage_text(passage: Passage) -> str:
    """Return what an encoder reads of a passage: its title, a line break, and its text."""
    return f"{passage.title}\n{passage.text}".strip()


def in_batches(
    items: Sequence[Item], length: Callable[[Item], int], batch_size: int, encode: Callable[[list[Item]], Vectors]
) -> Vectors:
    """Return the vectors of items in their order, encoded in batches of similar length: little is spent on padding.

    Args:
        items: at least one.
        length: of an item, in any unit.
        batch_size: items in a batch.
        encode: returns the vectors of a batch.
    """
    order = sorted(range(len(items)), key=lambda place: -length(items[place]))
    starts = range(0, len(items), batch_size)
    encoded = [encode([items[place] for place in order[start : start + batch_size]]) for start in starts]
    together = np.concatenate(encoded)
    vectors = np.empty_like(together)
    vectors[order] = together
    return vectors
