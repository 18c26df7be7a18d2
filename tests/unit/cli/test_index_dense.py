"""The command that makes vectors, as a user types it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stepsearch.cli.main import main
from stepsearch.config import DenseSearchSettings
from stepsearch.data import KnowledgeBase
from stepsearch.search import DenseSearchEngine
from stepsearch.types import Passage


def test_a_knowledge_base_gets_vectors_and_is_searched_with_them(
    word_encoder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "kb"
    KnowledgeBase.create(folder, map(Passage.from_text, ["red fox", "grey wolf"]))
    model = word_encoder("red fox grey wolf query")
    command = ["index-dense", "--knowledge-base", str(folder), "--encoder", str(model)]
    assert main([*command, "search.dense.query_prefix='query '", "search.dense.index=words"]) == 0
    said = capsys.readouterr().out
    assert f"2 passages indexed in {folder / 'words'}" in said
    assert f"search.engine_type=dense search.knowledge_base={folder} search.dense.index=words" in said
    engine = DenseSearchEngine.open(folder, DenseSearchSettings(index="words"))
    assert [passage.text for passage in engine.search("wolf", 1)] == ["grey wolf"]


def test_index_makes_both_indexes_in_one_go(
    word_encoder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("red fox\ngrey wolf\n", encoding="utf-8")
    folder = str(tmp_path / "kb")
    command = ["index", "--input", str(tmp_path / "text.txt"), "--output", folder]
    assert main([*command, "--engine", "dense"]) == 2
    assert "set search.dense.encoder" in capsys.readouterr().err
    encoder = ["--encoder", str(word_encoder("red fox grey wolf"))]
    assert main([*command, *encoder]) == 2
    assert "say --engine dense with it" in capsys.readouterr().err
    assert not (tmp_path / "kb").exists()
    assert main([*command, "--engine", "dense", *encoder]) == 0
    for engine in ("bm25", "dense"):
        capsys.readouterr()
        assert main(["search", "wolf", "--index", folder, "--top-k", "1", f"search.engine_type={engine}"]) == 0
        assert capsys.readouterr().out.endswith("   grey wolf\n")


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index-dense", "--knowledge-base", str(tmp_path / "none"), "--encoder", "x"]) == 2
    assert "is no knowledge base" in capsys.readouterr().err
    KnowledgeBase.create(tmp_path / "kb", [Passage.from_text("a")])
    assert main(["index-dense", "--knowledge-base", str(tmp_path / "kb")]) == 2
    assert "set search.dense.encoder" in capsys.readouterr().err
