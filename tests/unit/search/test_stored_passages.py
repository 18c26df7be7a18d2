from pathlib import Path

import pytest

from stepsearch.cli.main import main
from stepsearch.data.corpus import read_corpus
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.search import BM25SearchEngine
from stepsearch.search.stored_passages import StoredPassages
from stepsearch.types import Passage

TEXTS = ["A fox.", "A hen.", "An owl."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a knowledge base of two passages to which a third was added."""
    KnowledgeBase.create(tmp_path / "kb", map(Passage.from_text, TEXTS[:2]))
    engine = BM25SearchEngine.build(tmp_path / "kb")
    engine.add_documents(TEXTS[2:])
    engine.save(tmp_path / "kb")
    return tmp_path / "kb"


def test_passages_and_added_ones_are_one_sequence(folder: Path) -> None:
    stored = StoredPassages.open(folder)
    assert len(stored) == 3
    assert [passage.text for passage in stored] == TEXTS
    assert [stored[position].text for position in (0, 2, -1)] == ["A fox.", "An owl.", "An owl."]
    assert [passage.text for passage in stored[1:]] == TEXTS[1:]
    with pytest.raises(IndexError):
        stored[3]


def test_adding_changes_the_fingerprint(folder: Path) -> None:
    assert StoredPassages.open(folder).fingerprint != KnowledgeBase.open(folder).fingerprint


def test_added_passages_are_exported(folder: Path) -> None:
    target = folder.parent / "corpus.jsonl"
    assert main(["export", "--input", str(folder), "--format", "corpus", "--output", str(target)]) == 0
    assert [passage.text for passage in read_corpus(target)] == TEXTS
