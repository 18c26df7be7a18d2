"""A knowledge base takes another's place: indexes of the very same passages stay, of others it is said that they go."""

import json
from pathlib import Path

import pytest

from stepsearch.data import KnowledgeBase
from stepsearch.types import Passage

RED, BLUE = Passage.from_text("Kim leads Red."), Passage.from_text("Max leads Blue.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A knowledge base with an index in `vectors`."""
    knowledge_base = KnowledgeBase.create(tmp_path / "kb", [RED])
    write_index(knowledge_base.folder / "vectors", knowledge_base.fingerprint)
    return knowledge_base.folder


def write_index(index: Path, passages: object) -> None:
    index.mkdir()
    (index / "manifest.json").write_text(json.dumps({"passages": passages}))
    (index / "numbers").write_text("1 2 3")


def test_of_the_same_passages_it_is_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    KnowledgeBase.create(folder, [RED])
    assert (folder / "vectors" / "numbers").read_text() == "1 2 3"
    assert caplog.messages == []


def test_of_other_passages_it_goes_and_that_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    KnowledgeBase.create(folder, [RED, BLUE])
    assert not (folder / "vectors").exists()
    (line,) = caplog.messages
    assert line.startswith(f"{folder / 'vectors'} was made of other passages, and goes with them")
    assert line.endswith(f"stepsearch index-dense --knowledge-base {folder}")


def test_what_is_no_index_goes_without_a_word(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Documents that were added are a knowledge base, whose manifest counts passages.
    write_index(folder / "added", 1)
    (folder / "broken").mkdir()
    (folder / "broken" / "manifest.json").write_text("{")
    KnowledgeBase.create(folder, [RED])
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["vectors"]
    assert caplog.messages == []


def test_a_failure_leaves_it_where_it_was(folder: Path) -> None:
    def failing():
        yield BLUE
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        KnowledgeBase.create(folder, failing())
    assert (folder / "vectors" / "numbers").is_file()
