import gzip
import logging
from pathlib import Path

import pytest

from stepsearch.data.text_folder import cut, read_text_folder
from stepsearch.errors import DataError


@pytest.fixture
def manuals(tmp_path: Path) -> Path:
    folder = tmp_path / "manuals"
    (folder / "pumps").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "notes.md").write_text("Not yours.")
    (folder / "pumps" / "P1.md").write_bytes(
        b"See below.\r\n\r\n# Pump P1 #\r\nIt pumps.\r\n\r\n## Care\r\n\r\nOil it.\r\n"
    )
    (folder / "b.txt").write_text("\n  Warranty  \n\nTwo years.\n\n\n \nNot for misuse.", encoding="utf-8")
    (folder / "a.v2.TXT.gz").write_bytes(
        gzip.compress("Ein langer erster Satz ist kein Titel, denn er hat zu viele Wörter.".encode())
    )
    (folder / "empty.md").write_text("\n")
    return folder


def test_passages_have_the_files_titles_and_names(manuals: Path) -> None:
    found = [(passage.id, passage.title, passage.text) for passage in read_text_folder(manuals, 6)]
    assert found[:2] == [
        ("manuals/a.v2.TXT.gz#1", "a.v2", "Ein langer erster Satz ist kein"),
        ("manuals/a.v2.TXT.gz#2", "a.v2", "Titel, denn er hat zu viele"),
    ]
    assert found[3:] == [
        ("manuals/b.txt#1", "Warranty", "Warranty  \n\nTwo years.\n\nNot for misuse."),
        ("manuals/pumps/P1.md#1", "Pump P1", "See below."),
        ("manuals/pumps/P1.md#2", "Pump P1", "# Pump P1 #\n\nIt pumps."),
        ("manuals/pumps/P1.md#3", "Pump P1", "## Care\n\nOil it."),
    ]


def test_the_same_folder_gives_the_same_passages(manuals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passages = list(read_text_folder(manuals))
    assert [passage.id for passage in passages] == [
        f"manuals/{name}#1" for name in ("a.v2.TXT.gz", "b.txt", "pumps/P1.md")
    ]
    monkeypatch.chdir(manuals)
    assert list(read_text_folder(Path())) == passages


@pytest.mark.parametrize(
    ("text", "words", "passages"),
    [
        ("a b\n\nc d\n\ne", 4, ["a b\n\nc d", "e"]),
        ("a b\n\nc d\n\ne", 5, ["a b\n\nc d\n\ne"]),
        # No passage ends in a heading.
        ("a b\n## H\nc d", 4, ["a b", "## H\n\nc d"]),
        ("# H\n\n## I\n\na\n\n# J", 9, ["# H\n\n## I\n\na\n\n# J"]),
        # A long paragraph ends at lines and sentences, a long sentence between words.
        ("A b c. D e. F\ng h", 4, ["A b c.", "D e. F", "g h"]),
        ("v1.2 is a b c d", 3, ["v1.2 is a", "b c d"]),
        # Each ideograph is a word.
        ("今天很好。明天呢", 5, ["今天很好。", "明天呢"]),
        (" \n\n", 4, []),
    ],
)  # fmt: skip
def test_where_texts_are_cut(text: str, words: int, passages: list[str]) -> None:
    assert list(cut(text, words)) == passages


def test_comments_of_code_are_no_headings(tmp_path: Path) -> None:
    text = "```bash\n# install\nmake\n```\n# Setup\nDone."
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    [passage] = read_text_folder(tmp_path)
    assert (passage.title, passage.text) == ("Setup", "```bash\n# install\nmake\n```\n\n# Setup\n\nDone.")


def test_no_word_is_lost_and_no_passage_is_too_long() -> None:
    paragraphs = [" ".join(f"w{number}" for number in range(length)) for length in range(1, 250, 7)]
    headings = ["# A heading of six words here", "# Another one"]
    many = "\n\n".join("# Nothing more comes after this" for _ in range(17))
    text = "\n\n".join([*(f"{headings[at % 2]}\n\n{words}" for at, words in enumerate(paragraphs)), many])
    passages = list(cut(text, 100))
    assert " ".join(passages).split() == text.split()
    lengths = [len(passage.split()) for passage in passages]
    assert max(lengths) == 100
    assert sum(lengths) / len(lengths) > 50


def test_other_files_are_named(manuals: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.pdf", "b.pdf", "c.html", ".hidden"):
        (manuals / name).write_bytes(b"%PDF")
    with caplog.at_level(logging.WARNING):
        list(read_text_folder(manuals))
    assert caplog.messages == [f"{manuals}: only .txt and .md files are read, and left alone are 1 .html, 2 .pdf"]


def test_texts_that_cannot_be_read_are_named(manuals: Path, tmp_path: Path) -> None:
    (manuals / "latin.md").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.md is not UTF-8 text"):
        list(read_text_folder(manuals))
    (tmp_path / "blank").mkdir()
    (tmp_path / "blank" / "a.md").write_text(" \n")
    with pytest.raises(DataError, match=r"blank holds no text"):
        list(read_text_folder(tmp_path / "blank"))
