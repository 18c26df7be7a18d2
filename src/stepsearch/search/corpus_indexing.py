"""Making a large corpus searchable, in stages of which an interrupted run need not do again what it has finished."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from stepsearch.data.knowledge_base import KnowledgeBase, replace_knowledge_base, require_replaceable
from stepsearch.errors import SearchError
from stepsearch.search.bm25_search import BM25SearchEngine, Progress
from stepsearch.types import Passage

_SOURCES = "sources.txt"


def index_beside(folder: Path, passages: Iterable[Passage], sources: str, progress: Progress | None = None) -> Path:
    """Write passages, each id and content once, as a knowledge base with its BM25 index beside `folder`.

    It stays there until `put_in_place`. What an interrupted run has finished of it is not done again.

    Args:
        folder: where it is to be.
        passages: are not read where `has_been_read`.
        sources: where they come from, as a text that is another one when the passages are.
        progress: is told which share of the indexing is done.

    Returns:
        Where it lies.

    Raises:
        DataError: there are no passages, or `folder` holds something else than a knowledge base.
        SearchError: the passages hold no words.
    """
    require_replaceable(folder)
    kept = _unfinished(folder)
    if not has_been_read(folder, sources):
        KnowledgeBase.create(kept, passages)
        (kept / _SOURCES).write_text(sources, encoding="utf-8")
    if not _is_indexed(kept):
        try:
            BM25SearchEngine.build(kept, progress).close()
        except Exception:
            shutil.rmtree(kept, ignore_errors=True)
            raise
    return kept


def put_in_place(folder: Path) -> BM25SearchEngine:
    """Move what `index_beside` made to `folder`, in place of the knowledge base that it may hold, and open it.

    Raises:
        DataError: `folder` holds something else than a knowledge base.
    """
    kept = _unfinished(folder)
    (kept / _SOURCES).unlink()
    replace_knowledge_base(kept, folder)
    return BM25SearchEngine.open(folder)


def has_been_read(folder: Path, sources: str) -> bool:
    """Return whether an interrupted run has read all passages of these sources for this folder."""
    try:
        return (_unfinished(folder) / _SOURCES).read_text(encoding="utf-8") == sources
    except OSError:
        return False


def has_been_indexed(folder: Path, sources: str) -> bool:
    """Return whether an interrupted run has read all passages of these sources, and made their BM25 index too."""
    return has_been_read(folder, sources) and _is_indexed(_unfinished(folder))


def _is_indexed(folder: Path) -> bool:
    try:
        BM25SearchEngine.open(folder).close()
    except SearchError:
        return False
    return True


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unfinished")
