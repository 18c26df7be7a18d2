"""Making a large corpus searchable, in two stages of which an interrupted run need not do the first again."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from stepsearch.data.knowledge_base import KnowledgeBase, replace_knowledge_base, require_replaceable
from stepsearch.search.bm25_search import BM25SearchEngine, Progress
from stepsearch.types import Passage

_SOURCES = "sources.txt"


def index_corpus(
    folder: Path, passages: Iterable[Passage], sources: str, progress: Progress | None = None
) -> BM25SearchEngine:
    """Write passages, each id and content once, as a knowledge base with its index, and open it.

    It takes the place of the one that `folder` may hold when it is whole. Until then it lies beside it, and stays there
    if the run is interrupted after all passages have been read.

    Args:
        folder: where it is to be.
        passages: are not read where `has_been_read`.
        sources: where they come from, as a text that is another one when the passages are.
        progress: is told which share of the indexing is done.

    Raises:
        DataError: there are no passages, or `folder` holds something else than a knowledge base.
        SearchError: the passages hold no words.
    """
    require_replaceable(folder)
    kept = _unfinished(folder)
    if not has_been_read(folder, sources):
        KnowledgeBase.create(kept, passages)
        (kept / _SOURCES).write_text(sources, encoding="utf-8")
    try:
        BM25SearchEngine.build(kept, progress).close()
    except Exception:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    (kept / _SOURCES).unlink()
    replace_knowledge_base(kept, folder)
    return BM25SearchEngine.open(folder)


def has_been_read(folder: Path, sources: str) -> bool:
    """Return whether an interrupted run has read all passages of these sources for this folder."""
    try:
        return (_unfinished(folder) / _SOURCES).read_text(encoding="utf-8") == sources
    except OSError:
        return False


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unfinished")
