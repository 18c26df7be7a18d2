"""The command that makes vectors, as a user types it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stepsearch.cli.main import main
from stepsearch.config import DenseSearchSettings
from stepsearch.data import KnowledgeBase
from stepsearch.search import BM25SearchEngine, DenseSearchEngine, dense_encoding
from stepsearch.search.dense_files import PROBE
from stepsearch.search.encoder import Vectors
from stepsearch.search.text_encoder import TextEncoder
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


def test_an_interrupted_run_encodes_only_what_is_left(
    word_encoder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = ["red fox", "grey wolf", "red wolf", "grey fox"]
    (tmp_path / "text.txt").write_text("\n".join(texts), encoding="utf-8")
    model = str(word_encoder("red fox grey wolf"))

    def run(output: str) -> int:
        command = ["index", "--input", str(tmp_path / "text.txt"), "--output", str(tmp_path / output)]
        return main([*command, "--engine", "dense", "--encoder", model])

    encode, encoded = TextEncoder.encode_passages, list[str]()

    def encode_until_the_third(self: TextEncoder, passages: Sequence[Passage]) -> Vectors:
        if passages[0].text == texts[2]:
            raise KeyboardInterrupt
        return encode(self, passages)

    def encode_and_note(self: TextEncoder, passages: Sequence[Passage]) -> Vectors:
        encoded.extend(passage.text for passage in passages if passage.id != PROBE.id)
        return encode(self, passages)

    def unwanted(*_: object) -> None:
        raise AssertionError("this was done before")

    monkeypatch.setattr(dense_encoding, "SHARD", 1)
    with monkeypatch.context() as patched:
        patched.setattr(TextEncoder, "encode_passages", encode_until_the_third)
        assert run("kb") == 130
    said = capsys.readouterr()
    assert said.err.strip() == "interrupted; the same command goes on with what is finished"
    assert "interrupted" not in said.out
    assert not (tmp_path / "kb").exists()
    with monkeypatch.context() as patched:
        patched.setattr(TextEncoder, "encode_passages", encode_and_note)
        patched.setattr("stepsearch.search.passage_sources.read_passages", unwanted)
        patched.setattr(BM25SearchEngine, "build", unwanted)
        assert run("kb") == 0
    assert encoded == texts[2:]
    said = capsys.readouterr()
    assert "the passages have been read and indexed for BM25 by a run that was interrupted" in said.out
    assert "2 of 4 passages have vectors from a run that was interrupted" in said.out
    assert run("at once") == 0
    assert files_of(tmp_path / "kb") == files_of(tmp_path / "at once")
    assert sorted(path.name for path in tmp_path.iterdir() if "kb" in path.name) == ["kb"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index-dense", "--knowledge-base", str(tmp_path / "none"), "--encoder", "x"]) == 2
    assert "is no knowledge base" in capsys.readouterr().err
    KnowledgeBase.create(tmp_path / "kb", [Passage.from_text("a")])
    assert main(["index-dense", "--knowledge-base", str(tmp_path / "kb")]) == 2
    assert "set search.dense.encoder" in capsys.readouterr().err
