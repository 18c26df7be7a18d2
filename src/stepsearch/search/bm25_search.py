"""BM25 search over passages in memory, or over a knowledge base on disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import SearchError
from stepsearch.search.bm25_index import BM25Index, index_terms
from stepsearch.search.search_engine import SearchEngine
from stepsearch.types import Passage

INDEX_FOLDER, MANIFEST_FILE = "bm25", "stepsearch.json"
# Bumped whenever other terms are indexed, so that an index of older ones is refused.
INDEX_VERSION = 1

# A title names what its passage is about. Counted twice it found the golden paragraph of MuSiQue's sub-questions among
# the first three in 88 % of cases, once in 84 %, not at all in 77 % (100 dev questions, 1,799 paragraphs).
TITLE_WEIGHT = 2


class BM25SearchEngine(SearchEngine):
    """Finds passages by their words, exactly and deterministically: of equal scores the earlier passage comes first.

    A query without a known word finds nothing.
    """

    def __init__(self, passages: Sequence[Passage], index: BM25Index | None) -> None:
        """Take passages with their index; None when no passage holds a word."""
        self._passages = passages
        self._index = index

    @classmethod
    def from_passages(cls, passages: Iterable[Passage]) -> BM25SearchEngine:
        """Return an engine over passages in memory; of several with one id the first counts."""
        distinct: dict[str, Passage] = {}
        for passage in passages:
            distinct.setdefault(passage.id, passage)
        documents = [_terms(passage) for passage in distinct.values()]
        return cls(list(distinct.values()), BM25Index.build(documents) if any(documents) else None)

    @classmethod
    def build(cls, folder: Path) -> BM25SearchEngine:
        """Index the knowledge base in `folder`, in place of the index it may have, and open it.

        Raises:
            DataError: the folder is no knowledge base.
            SearchError: its passages hold no words.
        """
        knowledge_base = KnowledgeBase.open(folder)
        _write_index(knowledge_base, BM25Index.build(_terms(passage) for passage in knowledge_base))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> BM25SearchEngine:
        """Open a knowledge base with its index, both memory-mapped.

        Raises:
            DataError: the folder is no knowledge base.
            SearchError: it has no index, a damaged one, or one of other passages.
        """
        knowledge_base = KnowledgeBase.open(folder)
        _check_manifest(knowledge_base)
        index = BM25Index.open(knowledge_base.folder / INDEX_FOLDER)
        if len(index) != len(knowledge_base):
            raise _unusable(knowledge_base, "does not have one entry for each passage")
        return cls(knowledge_base, index)

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        """Return at most `top_k` passages, best first, with their scores."""
        if self._index is None:
            return []
        hits = self._index.best(index_terms(query), top_k)
        return [replace(self._passages[position], score=score) for position, score in hits]

    def add_documents(self, documents: Sequence[str]) -> None:
        """Add documents, in memory until `save` is called; one that is there already is not added again.

        The whole index is built anew: meant for additions that are few.
        """
        added = [Passage.from_text(document) for document in documents]
        grown = self.from_passages([*self._passages, *added])
        self._passages, self._index = grown._passages, grown._index

    def save(self, folder: Path) -> None:
        """Write passages and index as a knowledge base that `open` opens.

        Raises:
            DataError: `folder` holds something else than a knowledge base.
            SearchError: the passages hold no words.
        """
        if self._index is None:
            raise SearchError("there is nothing to save: the passages hold no words")
        _write_index(KnowledgeBase.create(folder, self._passages), self._index)


def _terms(passage: Passage) -> list[str]:
    return index_terms(passage.title) * TITLE_WEIGHT + index_terms(passage.text)


def _write_index(knowledge_base: KnowledgeBase, index: BM25Index) -> None:
    """Put the index beside the passages; a reader finds the old one or the new one, whole, or for an instant none."""
    beside = knowledge_base.folder / f".{INDEX_FOLDER}.{os.getpid()}.tmp"
    try:
        index.save(beside)
        (beside / MANIFEST_FILE).write_text(json.dumps(_manifest(knowledge_base)) + "\n", encoding="utf-8")
        _replace(beside, knowledge_base.folder / INDEX_FOLDER)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _replace(source: Path, target: Path) -> None:
    old = source.with_suffix(".old")
    if target.exists():
        os.replace(target, old)
    os.replace(source, target)
    shutil.rmtree(old, ignore_errors=True)


def _manifest(knowledge_base: KnowledgeBase) -> dict[str, Any]:
    return {"index_version": INDEX_VERSION, "passages": knowledge_base.fingerprint}


def _check_manifest(knowledge_base: KnowledgeBase) -> None:
    path = knowledge_base.folder / INDEX_FOLDER / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise _unusable(knowledge_base, "is missing") from None
    except ValueError:
        raise _unusable(knowledge_base, "is damaged") from None
    if manifest != _manifest(knowledge_base):
        raise _unusable(knowledge_base, "was made of other passages or by another version")


def _unusable(knowledge_base: KnowledgeBase, problem: str) -> SearchError:
    folder = knowledge_base.folder
    return SearchError(
        f"the BM25 index {folder / INDEX_FOLDER} {problem}: make it anew with prepare-data --build-knowledge-base, or "
        f"with BM25SearchEngine.build('{folder}')"
    )
