"""A knowledge base with what it lacks."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from stepsearch.data.knowledge_base import KnowledgeBaseWriter, replace_knowledge_base
from stepsearch.errors import DataError
from stepsearch.preparation.coverage import Locations, Match
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.stored_passages import StoredPassages
from stepsearch.types import Passage


def missing_documents(locations: Locations) -> list[Passage]:
    """Return the golden documents that the corpus lacks, ready to be added: an id that is taken becomes a hash."""
    return [
        Passage.from_text(document.text, document.title) if located.id_taken else document
        for document, located in locations.items()
        if located.match is Match.MISSING
    ]


def add_passages(folder: Path, passages: Sequence[Passage]) -> int:
    """Add passages to a knowledge base, with what was added to it before, and index it anew; returns how many were new.

    All is written beside it and takes its place at the end: a failure leaves it as it was. Its passages are copied one
    by one.

    Raises:
        DataError: the folder is no knowledge base, or cannot be written.
    """
    old = StoredPassages.open(folder)
    beside = folder.with_name(f".{folder.name}.completed.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with KnowledgeBaseWriter(beside) as writer:
            writer.add_all(old)
            before = len(writer)
            writer.add_all(passages)
        BM25SearchEngine.build(beside)
        replace_knowledge_base(beside, folder)
    except OSError as error:
        raise DataError(f"{error.filename or folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return len(writer) - before
