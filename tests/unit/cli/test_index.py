from pathlib import Path

import pytest

from stepsearch.cli.main import main
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.search import BM25SearchEngine


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("A red fox.\nA [brown] hen.\nThe red sky.\n", encoding="utf-8")
    return tmp_path / "text.txt"


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def interrupted(text: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of an indexing that was interrupted once the passages were read."""
    command = ["index", "--input", str(text), "--output", str(text.parent / "kb")]
    with monkeypatch.context() as patched:
        patched.setattr(BM25SearchEngine, "build", interrupt)
        assert main(command) == 130
    return command


def test_what_was_indexed_is_found(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = text.parent / "kb"
    assert main(["index", "--input", str(text), "--output", str(folder)]) == 0
    assert "3 passages" in capsys.readouterr().out
    assert main(["search", "red fox", "--index", str(folder), "--top-k", "1"]) == 0
    said = capsys.readouterr().out
    assert "1. (no title) [id " in said
    assert said.endswith("   A red fox.\n")
    assert main(["search", "hen", "--index", str(folder)]) == 0
    assert "A [brown] hen." in capsys.readouterr().out
    assert main(["search", "purple", "--index", str(folder)]) == 0
    assert capsys.readouterr().out == "nothing found\n"


def test_an_interrupted_run_does_not_read_again_what_it_had_read(
    text: Path, interrupted: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = text.parent / "kb"
    assert not folder.exists()
    with monkeypatch.context() as patched:
        patched.setattr("stepsearch.search.passage_sources.read_passages", interrupt)
        assert main(interrupted) == 0
    assert "only the index is left to make" in capsys.readouterr().out
    assert len(KnowledgeBase.open(folder)) == 3
    assert sorted(path.name for path in text.parent.iterdir()) == ["kb", "text.txt"]
    assert sorted(path.name for path in folder.iterdir()) == ["bm25", "manifest.json", "offsets.npy", "passages.jsonl"]


def test_an_interrupted_run_with_other_passages_is_forgotten(text: Path, interrupted: list[str]) -> None:
    text.write_text("An owl.\n", encoding="utf-8")
    assert main(interrupted) == 0
    assert [passage.text for passage in KnowledgeBase.open(text.parent / "kb")] == ["An owl."]


def test_several_inputs_are_joined_and_a_knowledge_base_is_one(text: Path) -> None:
    folder = text.parent / "kb"
    main(["index", "--input", str(text), "--output", str(folder)])
    engine = BM25SearchEngine.open(folder)
    engine.add_documents(["An owl."])
    engine.save(folder)
    (text.parent / "more.txt").write_text("An elk.\nA red fox.\n", encoding="utf-8")
    assert main(["index", "--input", str(folder), str(text.parent / "more.txt"), "--output", str(folder)]) == 0
    texts = [passage.text for passage in KnowledgeBase.open(folder)]
    assert texts == ["A red fox.", "A [brown] hen.", "The red sky.", "An owl.", "An elk."]
    assert not (folder / "added").exists()


def test_what_cannot_be_read_or_replaced_is_refused(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (text.parent / "own").mkdir()
    (text.parent / "own" / "thesis.tex").write_text("x", encoding="utf-8")
    assert main(["index", "--input", str(text), "--output", str(text.parent / "own")]) == 2
    assert "is no knowledge base" in capsys.readouterr().err
    assert main(["index", "--input", str(text.parent / "none"), "--output", str(text.parent / "kb")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["index", "--input", str(text.parent / "own"), "--output", str(text.parent / "kb")]) == 2
    assert (
        "is a folder and no knowledge base, and has no .txt or .md files: name the files in it"
        in capsys.readouterr().err
    )
    assert not (text.parent / "kb").exists()
    assert main(["search", "fox", "--index", str(text.parent / "none")]) == 2
    assert "is not there" in capsys.readouterr().err


def test_any_text_can_be_asked_for(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(text.parent / "kb")
    text.write_text("E=mc2 is Einstein's.\n北京是中国的首都。\n", encoding="utf-8")
    main(["index", "--input", str(text), "--output", folder])
    capsys.readouterr()
    assert main(["search", "what is E=mc2", "--index", folder]) == 0
    assert "Einstein" in capsys.readouterr().out
    assert main(["search", "--index", folder, "search.top_k=1", "--", "E=mc2"]) == 0
    assert "Einstein" in capsys.readouterr().out
    assert main(["search", "--index", folder, "--", "--mc2"]) == 0
    assert "Einstein" in capsys.readouterr().out
    assert main(["search", "首都在哪里", "--index", folder]) == 0
    assert "北京" in capsys.readouterr().out


def test_a_folder_of_texts_is_cut_into_passages(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manuals, folder = text.parent / "manuals", text.parent / "kb"
    (manuals / "care").mkdir(parents=True)
    (manuals / "care" / "oil.md").write_text("# Oiling\n\nOil it once a year.\n\nUse light oil.\n", encoding="utf-8")
    command = ["index", "--input", str(manuals), str(text), "--output", str(folder)]
    assert main(command) == 0
    assert KnowledgeBase.open(folder)[0].id == "manuals/care/oil.md#1"
    assert len(KnowledgeBase.open(folder)) == 1 + 3
    assert main([*command, "--passage-words", "7"]) == 0
    assert [passage.text for passage in KnowledgeBase.open(folder)][:2] == [
        "# Oiling\n\nOil it once a year.",
        "Use light oil.",
    ]
    capsys.readouterr()
    prepared = ["prepare-data", "--corpus", str(manuals), "--output-dir", str(text.parent / "out")]
    assert main([*prepared, "--passage-words", "7"]) == 0
    assert "knowledge_base: 2 passages from manuals" in capsys.readouterr().out


def test_folders_that_give_no_passages_or_shared_ids_are_refused(
    text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for parent in ("a", "b"):
        (text.parent / parent / "docs").mkdir(parents=True)
        (text.parent / parent / "docs" / "x.md").write_text(f"Text of {parent}.", encoding="utf-8")
    output = ["--output", str(text.parent / "kb")]
    inputs = [str(text.parent / parent / "docs") for parent in ("a", "b")]
    assert main(["index", "--input", *inputs, *output]) == 2
    assert "two folders are called docs" in capsys.readouterr().err
    for command in (["index", "--input", str(text), *output], ["prepare-data", "--output-dir", str(text.parent / "p")]):
        assert main([*command, "--passage-words", "50"]) == 2
        assert "--passage-words is for" in capsys.readouterr().err
    assert not (text.parent / "kb").exists()


def test_a_file_that_is_written_to_between_two_runs_is_read_again(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manuals = text.parent / "manuals"
    manuals.mkdir()
    (manuals / "a.md").write_text("Old.", encoding="utf-8")
    command = ["index", "--input", str(manuals), "--output", str(text.parent / "kb")]
    with monkeypatch.context() as patched:
        patched.setattr(BM25SearchEngine, "build", interrupt)
        assert main(command) == 130
    (manuals / "a.md").write_text("Newer.", encoding="utf-8")
    assert main(command) == 0
    assert [passage.text for passage in KnowledgeBase.open(text.parent / "kb")] == ["Newer."]


def test_an_output_that_cannot_be_written_is_named(
    unprivileged_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (unprivileged_folder / "a.txt").write_text("A red fox.\n", encoding="utf-8")
    (unprivileged_folder / "mine").mkdir(0o555)
    for parent in ("a.txt", "mine"):
        output = unprivileged_folder / parent / "kb"
        assert main(["index", "--input", str(unprivileged_folder / "a.txt"), "--output", str(output)]) == 2
        assert f"error: --output {output} cannot be written: " in capsys.readouterr().err
