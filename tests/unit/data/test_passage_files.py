import gzip
import json
from pathlib import Path

import pytest

from stepsearch.data.passage_files import read_passages
from stepsearch.errors import DataError

CORPUS = '{"id": 7, "contents": "\\"Fox\\"\\nA red fox."}\n{"id": "8", "text": "A hen."}\n'


def test_a_corpus_keeps_ids_and_titles(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(CORPUS, encoding="utf-8")
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(CORPUS.encode()))
    for name in ("corpus.jsonl", "packed.jsonl.gz"):
        found = [(passage.id, passage.title, passage.text) for passage in read_passages(tmp_path / name)]
        assert found == [("7", "Fox", "A red fox."), ("8", "", "A hen.")]


def test_every_line_of_a_text_is_a_passage(tmp_path: Path) -> None:
    text = "Ein Füchslein.\n\n  \r\n  A hen. \r\nlast"
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.txt", "b.txt.gz"):
        assert [p.text for p in read_passages(tmp_path / name)] == ["Ein Füchslein.", "A hen.", "last"]


@pytest.mark.parametrize(
    ("name", "passages"),
    [
        ("musique_ans_v1.0_dev.sample100.jsonl", 2000),
        ("hotpot_dev_distractor_v1.sample100.json", 994),
        ("2wikimultihop_dev.sample.json", None),
    ],
)
def test_paragraphs_of_the_benchmarks_are_passages(real_data: Path, name: str, passages: int | None) -> None:
    found = list(read_passages(real_data / name))
    assert all(passage.title and passage.text for passage in found)
    if passages is not None:
        assert abs(len(found) - passages) <= 10


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n \n", encoding="utf-8")
    with pytest.raises(DataError, match="is empty"):
        list(read_passages(tmp_path / name))


def test_questions_without_paragraphs_are_an_error(tmp_path: Path) -> None:
    row = {"id": "1", "question": "Who?", "golden_answers": ["Ann"]}
    (tmp_path / "bare.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError, match="without paragraphs"):
        list(read_passages(tmp_path / "bare.jsonl"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.md", b"# Pump\n\nIt pumps."),
        ("a.md", b"[a link](b.md)"),
        ("a.csv", b"id,text\n1,fox"),
        ("a.pdf", b"%PDF-1.7\n\xe2\xe3"),
        ("a.csv.gz", gzip.compress(b"id,text\n", mtime=0)),
        ("a.md", b""),
    ],
)
def test_a_file_of_another_kind_is_told_what_is_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is of no kind that passages are read from: name a \.jsonl .* folder"):
        read_passages(tmp_path / name)


def test_records_are_read_whatever_their_files_name(tmp_path: Path) -> None:
    as_list = "[\n " + CORPUS.replace("\n", ",", 1) + "]"
    for name, content in (("wiki.part-00", CORPUS), ("a.data", as_list), ("wiki", CORPUS)):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert [passage.id for passage in read_passages(tmp_path / name)] == ["7", "8"]
    (tmp_path / "b.jsonl").write_text("id, text", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.jsonl, line 1 is not whole JSON"):
        read_passages(tmp_path / "b.jsonl")
    (tmp_path / "C.TXT").write_text("fox\nhen\n", encoding="utf-8")
    assert [passage.text for passage in read_passages(tmp_path / "C.TXT")] == ["fox", "hen"]
