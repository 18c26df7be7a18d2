"""A knowledge base with what was added to it: `added/` inside its folder, a knowledge base itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.types import Passage

ADDED_FOLDER = "added"


class StoredPassages(Sequence[Passage]):
    """The passages of a knowledge base, then those that were added to it.

    Attributes:
        fingerprint: hash of all passages in their order.
    """

    def __init__(self, knowledge_base: KnowledgeBase, added: KnowledgeBase | None) -> None:
        """Take the knowledge base, and what was added to it where something was."""
        self._parts = [knowledge_base] if added is None else [knowledge_base, added]
        self.fingerprint = "+".join(part.fingerprint for part in self._parts)

    @classmethod
    def open(cls, folder: Path) -> StoredPassages:
        """Open a knowledge base with what was added to it, without reading the passages.

        Raises:
            DataError: the folder is no knowledge base.
        """
        knowledge_base = KnowledgeBase.open(folder)
        return cls(knowledge_base, open_added(knowledge_base))

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> list[Passage]: ...
    def __getitem__(self, index: int | slice) -> Passage | list[Passage]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position, first = range(len(self))[index], len(self._parts[0])
        return self._parts[0][position] if position < first else self._parts[1][position - first]

    def __iter__(self) -> Iterator[Passage]:
        for part in self._parts:
            yield from part


def open_added(knowledge_base: KnowledgeBase) -> KnowledgeBase | None:
    """Return what was added to a knowledge base, None where nothing was.

    Raises:
        DataError: it is not whole.
    """
    folder = knowledge_base.folder / ADDED_FOLDER
    return KnowledgeBase.open(folder) if folder.is_dir() else None
