import gzip
import json
import tracemalloc

import pytest

from stepsearch.data.corpus import passage_from_record, passage_to_record, read_corpus, write_corpus
from stepsearch.data.knowledge_base import KnowledgeBase, KnowledgeBaseWriter
from stepsearch.data.musique import read_musique
from stepsearch.data.records import Record
from stepsearch.errors import DataError
from stepsearch.types import Passage

PASSAGES = [
    Passage("0", "Up is a film.\nIt is by Ann.", "Up"),
    Passage("1", 'He said "no".', 'The "Big" One'),
    Passage("x-2", "Rōma.", ""),
]


@pytest.mark.parametrize(
    ("contents", "title", "text"),
    [
        ('"Evan Morris"\nEvan L. Morris was a lobbyist.', "Evan Morris", "Evan L. Morris was a lobbyist."),
        ("Evan Morris\nA lobbyist.", "Evan Morris", "A lobbyist."),
        ("Three years later, Hale was recommended.", "", "Three years later, Hale was recommended."),
        ('""\nNo title.', "", "No title."),
        ('""Heroes" (song)"\nBy Bowie.', '"Heroes" (song)', "By Bowie."),
        ('"A"\nb\nc', "A", "b\nc"),
    ],
)
def test_what_contents_mean(contents, title, text):
    passage = passage_from_record(Record({"id": 7, "contents": contents}, "here"))
    assert passage == Passage("7", text, title)


def test_title_and_text_may_stand_apart():
    assert passage_from_record(Record({"id": "a", "title": "T", "text": "b"}, "here")) == Passage("a", "b", "T")


@pytest.mark.parametrize("key", [{}, {"id": None}, {"id": ""}])
def test_a_passage_without_an_id_is_named_after_its_content(key, tmp_path):
    lines = [
        {"title": "T", "text": "b"},
        {"contents": "b"},
        {"title": "T", "text": "b"},
        {"text": "b", "image": "b.png"},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(key | line) + "\n" for line in lines), encoding="utf-8")
    titled, bare = Passage.from_text("b", "T"), Passage.from_text("b")
    image = Passage(f"{bare.id} b.png", "b", image="b.png")
    assert list(read_corpus(tmp_path / "c.jsonl")) == [titled, bare, titled, image]
    assert list(KnowledgeBase.create(tmp_path / "kb", read_corpus(tmp_path / "c.jsonl"))) == [titled, bare, image]


def test_ids_as_beir_calls_them():
    assert passage_from_record(Record({"_id": "doc7", "title": "", "text": "b"}, "here")) == Passage("doc7", "b")


def test_what_is_written():
    assert passage_to_record(PASSAGES[0]) == {"id": "0", "contents": '"Up"\nUp is a film.\nIt is by Ann.'}
    assert passage_to_record(Passage("1", "x", "a\nb"))["contents"] == '"a b"\nx'


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_round_trip(name, tmp_path):
    path = tmp_path / "new" / name
    assert write_corpus(path, PASSAGES) == 3
    assert list(read_corpus(path)) == PASSAGES
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_equal_passages_give_equal_packed_files(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_corpus(tmp_path / name, PASSAGES)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_genuine_paragraphs_survive(real_data, tmp_path):
    passages = read_musique(real_data / "musique_ans_v1.0_dev.sample100.jsonl").passages
    write_corpus(tmp_path / "c.jsonl.gz", passages)
    assert list(read_corpus(tmp_path / "c.jsonl.gz")) == passages


def test_joined_corpora_may_repeat_passages_whose_ids_are_hashes(tmp_path):
    one, two = Passage.from_text("Up is a film.", "Up"), Passage.from_text("Rome is a city.", "Rome")
    write_corpus(tmp_path / "c.jsonl", [one, two, one])
    assert list(KnowledgeBase.create(tmp_path / "kb", read_corpus(tmp_path / "c.jsonl"))) == [one, two]


def test_a_knowledge_base_keeps_the_ids_and_each_content_once(tmp_path):
    again = Passage("9", PASSAGES[0].text, PASSAGES[0].title)
    write_corpus(tmp_path / "c.jsonl", [*PASSAGES, again])
    assert list(KnowledgeBase.create(tmp_path / "kb", read_corpus(tmp_path / "c.jsonl"))) == PASSAGES
    with KnowledgeBaseWriter(tmp_path / "other") as writer:
        writer.add_all(read_corpus(tmp_path / "c.jsonl"))
        assert (len(writer), writer.repeated) == (3, 1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [{"id": "0", "body": "x"}],
            r"c\.jsonl, line 1: a passage is .*\"contents\".* or .*\"text\".*; this record has the keys id, body$",
        ),
        ([{"data": [{"id": "0", "text": "x"}]}], "or in a list; this record has the keys data$"),
        ([{f"prod-{number}": "x" for number in range(9)}], "has the keys prod-0, prod-1, prod-2, prod-3, prod-4, …$"),
        ([{"id": "0", "text": "x"}, {}], "line 2: a passage is .* this record has no key"),
        ([{"id": "0", "contents": 3}], "line 1: key 'contents' must hold a text, not a number"),
        ([{"id": "0", "contents": "a"}, {"id": 0, "contents": "b"}], "line 2: passage id 0 occurs a second time"),
        ([{"id": 0.5, "contents": "a"}], "line 1: key 'id' must hold a text, not a number"),
    ],
)
def test_malformed_passages_are_named(lines, message, tmp_path):
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(read_corpus(tmp_path / "c.jsonl"))


@pytest.mark.parametrize("damage", ["cut", "garbled"])
def test_damaged_packing_is_named(damage, tmp_path):
    path = tmp_path / "c.jsonl.gz"
    write_corpus(path, (Passage(str(number), f"text {number * number}") for number in range(500)))
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] if damage == "cut" else content[:middle] + b"\xff" * 40 + content[middle + 40 :])
    with pytest.raises(DataError, match=r"c\.jsonl\.gz(, line \d+)? is (no whole gzip file|not)"):
        list(read_corpus(path))


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"c\.jsonl cannot be written"):
        write_corpus(tmp_path / "file" / "c.jsonl", PASSAGES)


def test_a_corpus_never_passes_through_memory(tmp_path):
    passages = (Passage(str(number), f"{number} " * 2_000, "t") for number in range(1_000))
    with gzip.open(tmp_path / "c.jsonl.gz", "wt", encoding="utf-8") as file:
        for passage in passages:
            file.write(json.dumps(passage_to_record(passage)) + "\n")
    tracemalloc.start()
    try:
        knowledge_base = KnowledgeBase.create(tmp_path / "kb", read_corpus(tmp_path / "c.jsonl.gz"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (knowledge_base.folder / "passages.jsonl").stat().st_size > 7_000_000
    # Three tables of 32 kB, the offsets, a line in several forms, buffers.
    assert peak < 1_000_000
