"""BM25 search over passages in memory, or over a knowledge base on disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsearch.data.knowledge_base import (
    KnowledgeBase,
    KnowledgeBaseWriter,
    replace_knowledge_base,
    require_replaceable,
)
from stepsearch.data.packed_files import not_permitted
from stepsearch.data.whole_files import replace_folder
from stepsearch.errors import SearchError
from stepsearch.search.bm25_builder import build_postings
from stepsearch.search.bm25_index import BM25Index, index_terms
from stepsearch.search.search_engine import SearchEngine
from stepsearch.search.stored_passages import ADDED_FOLDER, open_added
from stepsearch.types import Passage

INDEX_FOLDER, MANIFEST_FILE = "bm25", "stepsearch.json"
# Bumped whenever other terms are indexed or files change, so that an index of older ones is refused.
INDEX_VERSION = 4

# A title names what its passage is about. Counted twice it found the golden paragraph of MuSiQue's sub-questions among
# the first three in 88 % of cases, once in 84 %, not at all in 77 % (100 dev questions, 1,799 paragraphs).
TITLE_WEIGHT = 2
_COUNTING_SHARE = 0.8
_PROGRESS_EVERY = 1000

Progress = Callable[[float], None]
"""Told which share of the indexing is done by now."""


@dataclass(frozen=True, slots=True)
class _Corpus:
    """What is searched at one moment: passages, those added to them, and the index of both.

    The index is None when no passage holds a word.
    """

    passages: Sequence[Passage]
    added: tuple[Passage, ...]
    index: BM25Index | None

    def __iter__(self) -> Iterator[Passage]:
        yield from self.passages
        yield from self.added

    def __getitem__(self, position: int) -> Passage:
        count = len(self.passages)
        return self.passages[position] if position < count else self.added[position - count]

    def holds(self, passage: Passage) -> bool:
        """Return whether a passage of this content is there; of the first ones none is read that cannot be it."""
        if any(passage.id == added.id for added in self.added):
            return True
        if self.index is None:
            return any(passage.id == other.id for other in self.passages)
        alike = (self.passages[position] for position in self.index.parts[0].alike(_terms(passage)))
        return any((passage.title, passage.text) == (other.title, other.text) for other in alike)


class BM25SearchEngine(SearchEngine):
    """Finds passages by their words, exactly and deterministically: of equal scores the earlier passage comes first.

    A query without a known word finds nothing. Searching may go on in other threads while documents are added.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        index: BM25Index | None,
        added: Sequence[Passage] = (),
        folder: Path | None = None,
    ) -> None:
        """Take passages with their index, and where they lie; the index is None when no passage holds a word."""
        self._corpus = _Corpus(passages, tuple(added), index)
        self._folder = folder

    @classmethod
    def from_passages(cls, passages: Iterable[Passage]) -> BM25SearchEngine:
        """Return an engine over passages in memory; of several with one id the first counts."""
        distinct: dict[str, Passage] = {}
        for passage in passages:
            distinct.setdefault(passage.id, passage)
        documents = [_terms(passage) for passage in distinct.values()]
        return cls(list(distinct.values()), BM25Index.build(documents) if any(documents) else None)

    @classmethod
    def create(cls, folder: Path, passages: Iterable[Passage], progress: Progress | None = None) -> BM25SearchEngine:
        """Write passages, each id and content once, as a knowledge base with its index, and open it.

        It takes the place of the one that `folder` may hold when it is whole; a failure leaves that as it was.

        Raises:
            DataError: there are no passages, or `folder` holds something else than a knowledge base.
            SearchError: the passages hold no words.
        """
        folder = Path(folder)
        require_replaceable(folder)
        beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        try:
            with KnowledgeBaseWriter(beside) as writer:
                writer.add_all(passages)
            _write_index(KnowledgeBase.open(beside), progress)
            replace_knowledge_base(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def build(cls, folder: Path, progress: Progress | None = None) -> BM25SearchEngine:
        """Index the knowledge base in `folder`, in place of the index it may have, and open it.

        Raises:
            DataError: the folder is no knowledge base.
            SearchError: its passages hold no words.
        """
        _write_index(KnowledgeBase.open(folder), progress)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> BM25SearchEngine:
        """Open a knowledge base with its index, both memory-mapped, and what was added to it.

        Raises:
            DataError: the folder is no knowledge base.
            SearchError: it has no index, a damaged one, or one of other passages.
        """
        knowledge_base = KnowledgeBase.open(folder)
        index = _open_index(knowledge_base)
        added = open_added(knowledge_base)
        if added is None:
            return cls(knowledge_base, index, folder=knowledge_base.folder)
        parts = [*index.parts, *_open_index(added).parts]
        return cls(knowledge_base, BM25Index(parts), list(added), knowledge_base.folder)

    def __len__(self) -> int:
        corpus = self._corpus
        return len(corpus.passages) + len(corpus.added)

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        """Return at most `top_k` passages, best first, with their scores."""
        return self.search_batch([query], top_k)[0]

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        """Return the passages of each query; equal queries are searched once, and each passage is read once."""
        corpus = self._corpus
        if corpus.index is None:
            return [[] for _ in queries]
        distinct = list(dict.fromkeys(queries))
        best = corpus.index.best_of_each([index_terms(query) for query in distinct], top_k)
        hits = dict(zip(distinct, best, strict=True))
        found = {position: corpus[position] for position in {hit[0] for some in hits.values() for hit in some}}
        return [[_scored(found[position], score) for position, score in hits[query]] for query in queries]

    def add_documents(self, documents: Sequence[str]) -> None:
        """Add documents, in memory until `save` is called; one that is there already is not added again.

        Only what was added is indexed anew, and scores are at once those of an index of everything. Documents without a
        word are left out.
        """
        corpus = self._corpus
        texts = dict.fromkeys(document for document in documents if index_terms(document))
        new = [passage for passage in map(Passage.from_text, texts) if not corpus.holds(passage)]
        if not new:
            return
        if corpus.index is None:
            self._corpus = self.from_passages([*corpus, *new])._corpus
            return
        added = (*corpus.added, *new)
        grown = BM25Index.build(map(_terms, added))
        self._corpus = _Corpus(corpus.passages, added, BM25Index([corpus.index.parts[0], *grown.parts]))

    def save(self, folder: Path) -> None:
        """Write passages and index as a knowledge base that `open` opens.

        Into the folder that the engine was opened from only what was added is written, beside the rest.

        Raises:
            DataError: `folder` holds something else than a knowledge base.
            SearchError: the passages hold no words.
        """
        if self._corpus.index is None:
            raise SearchError("there is nothing to save: the passages hold no words")
        if self._folder is None or Path(folder).resolve() != self._folder.resolve():
            self.create(folder, self._corpus)
        elif self._corpus.added:
            _write_added(KnowledgeBase.open(self._folder), self._corpus.added)

    def compact(self, progress: Progress | None = None) -> None:
        """Make one knowledge base with one index of the passages and what was added, in the engine's folder.

        Raises:
            SearchError: the engine is in memory only.
        """
        if self._folder is None:
            raise SearchError("this engine has no folder to be compacted in: save it, and open that")
        if self._corpus.added:
            self._corpus = self.create(self._folder, self._corpus, progress)._corpus


def _scored(passage: Passage, score: float) -> Passage:
    return Passage(passage.id, passage.text, passage.title, score)


def _terms(passage: Passage) -> list[str]:
    return index_terms(passage.title) * TITLE_WEIGHT + index_terms(passage.text)


def _write_index(knowledge_base: KnowledgeBase, progress: Progress | None = None) -> None:
    """Put the index beside the passages; a reader finds the old one or the new one, whole, or for an instant none."""
    beside = knowledge_base.folder / f".{INDEX_FOLDER}.{os.getpid()}.tmp"
    report = progress or _unheard
    try:
        beside.mkdir()
        documents = map(_terms, _counted(knowledge_base, report))
        build_postings(beside, documents, lambda share: report(_COUNTING_SHARE + (1 - _COUNTING_SHARE) * share))
        (beside / MANIFEST_FILE).write_text(json.dumps(_manifest(knowledge_base)) + "\n", encoding="utf-8")
        replace_folder(beside, knowledge_base.folder / INDEX_FOLDER)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _unheard(share: float) -> None:
    """Take a progress that nobody wants to know."""


def _counted(passages: Sequence[Passage], report: Progress) -> Iterator[Passage]:
    for number, passage in enumerate(passages):
        if number % _PROGRESS_EVERY == 0:
            report(_COUNTING_SHARE * number / len(passages))
        yield passage


def _write_added(knowledge_base: KnowledgeBase, added: Iterable[Passage]) -> None:
    """Put passages with their index into the knowledge base's folder, in place of what was added before."""
    beside = knowledge_base.folder / f".{ADDED_FOLDER}.{os.getpid()}.tmp"
    try:
        with KnowledgeBaseWriter(beside) as writer:
            writer.add_all(added)
        _write_index(KnowledgeBase.open(beside))
        replace_folder(beside, knowledge_base.folder / ADDED_FOLDER)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _open_index(knowledge_base: KnowledgeBase) -> BM25Index:
    _check_manifest(knowledge_base)
    try:
        index = BM25Index.open(knowledge_base.folder / INDEX_FOLDER)
    except SearchError as error:
        raise SearchError(f"{error}: {_how_to_mend(knowledge_base)}") from None
    if len(index) != len(knowledge_base):
        raise _unusable(knowledge_base, "does not have one entry for each passage")
    return index


def _manifest(knowledge_base: KnowledgeBase) -> dict[str, Any]:
    return {"index_version": INDEX_VERSION, "passages": knowledge_base.fingerprint}


def _check_manifest(knowledge_base: KnowledgeBase) -> None:
    path = knowledge_base.folder / INDEX_FOLDER / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise not_permitted(error) from None
    except OSError:
        raise _unusable(knowledge_base, "is missing") from None
    except ValueError:
        raise _unusable(knowledge_base, "is damaged") from None
    if manifest != _manifest(knowledge_base):
        raise _unusable(knowledge_base, "was made of other passages or by another version")


def _unusable(knowledge_base: KnowledgeBase, problem: str) -> SearchError:
    return SearchError(
        f"the BM25 index {knowledge_base.folder / INDEX_FOLDER} {problem}: {_how_to_mend(knowledge_base)}"
    )


def _how_to_mend(knowledge_base: KnowledgeBase) -> str:
    folder = knowledge_base.folder
    return (
        f"make it anew with stepsearch index --input {folder} --output {folder}, or with prepare-data "
        "--build-knowledge-base"
    )
