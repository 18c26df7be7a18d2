import json
import tracemalloc

import numpy as np
import pytest

from stepsearch.data.knowledge_base import FORMAT, VERSION, KnowledgeBase
from stepsearch.errors import DataError
from stepsearch.types import Passage

PASSAGES = [
    Passage.from_text("Up is a film.", "Up"),
    Passage.from_text("Rōma\u2028is a city.\nIt is old.", "Rome"),
    Passage.from_text("No title."),
]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "knowledge_base"


def test_round_trip(folder):
    created = KnowledgeBase.create(folder, [*PASSAGES, PASSAGES[0]])
    reopened = KnowledgeBase.open(folder)
    assert len(created) == len(reopened) == 3
    assert list(reopened) == PASSAGES
    assert [reopened[0], reopened[-1]] == [PASSAGES[0], PASSAGES[2]]
    assert reopened[1:] == PASSAGES[1:]
    assert created.fingerprint == reopened.fingerprint
    with pytest.raises(IndexError):
        reopened[3]


def test_iteration_crosses_chunks(folder):
    passages = [Passage(str(number), f"text {number}") for number in range(10_000)]
    assert list(KnowledgeBase.create(folder, passages)) == passages


def test_fingerprint_is_that_of_the_content(tmp_path):
    same = KnowledgeBase.create(tmp_path / "a", PASSAGES).fingerprint
    assert KnowledgeBase.create(tmp_path / "b", PASSAGES).fingerprint == same
    assert KnowledgeBase.create(tmp_path / "c", PASSAGES[1:]).fingerprint != same


def test_creating_again_replaces_and_leaves_nothing_beside(folder):
    opened = KnowledgeBase.create(folder, PASSAGES)
    (folder / "bm25").mkdir()
    KnowledgeBase.create(folder, PASSAGES[:1])
    assert len(KnowledgeBase.open(folder)) == 1
    assert not (folder / "bm25").exists()
    assert [entry.name for entry in folder.parent.iterdir()] == ["knowledge_base"]
    # Whoever has the old one open goes on reading it.
    assert list(opened) == PASSAGES


def test_failure_half_way_leaves_the_old_one(folder):
    KnowledgeBase.create(folder, PASSAGES)

    def failing():
        yield Passage.from_text("new")
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        KnowledgeBase.create(folder, failing())
    assert list(KnowledgeBase.open(folder)) == PASSAGES
    assert [entry.name for entry in folder.parent.iterdir()] == ["knowledge_base"]


def test_no_passages(folder):
    with pytest.raises(DataError, match="at least one passage"):
        KnowledgeBase.create(folder, [])
    assert not folder.exists()


def test_foreign_folder_is_not_replaced(folder):
    folder.mkdir()
    (folder / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(DataError, match="exists and is no knowledge base"):
        KnowledgeBase.create(folder, PASSAGES)
    assert (folder / "letter.txt").exists()


def test_a_passage_is_read_when_it_is_asked_for(folder):
    KnowledgeBase.create(folder, PASSAGES)
    opened = KnowledgeBase.open(folder)
    content = (folder / "passages.jsonl").read_bytes()
    with (folder / "passages.jsonl").open("r+b") as file:
        file.write(content.replace(b"film", b"book"))
    assert opened[0].text == "Up is a book."


def test_opening_and_reading_one_keeps_none_of_the_others_in_memory(folder):
    passages = (Passage(str(number), f"text {number} " * 100) for number in range(5_000))
    KnowledgeBase.create(folder, passages)
    assert (folder / "passages.jsonl").stat().st_size > 4_000_000
    tracemalloc.start()
    try:
        assert KnowledgeBase.open(folder)[4_321].id == "4321"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000


def test_absent_folder_and_folder_without_manifest(folder):
    with pytest.raises(DataError, match="does not exist; make one with stepsearch index"):
        KnowledgeBase.open(folder)
    folder.mkdir()
    with pytest.raises(DataError, match=r"has no manifest\.json; make one"):
        KnowledgeBase.open(folder)


@pytest.mark.parametrize("name", ["passages.jsonl", "offsets.npy"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_half_present_folder(name, damage, folder):
    KnowledgeBase.create(folder, PASSAGES)
    content = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"" if damage == "empty" else content[:-10])
    with pytest.raises(DataError, match=r"is not whole .*: make it anew with stepsearch index, or with prepare"):
        KnowledgeBase.open(folder)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", r"manifest\.json: "),
        ('{"format": "other"}', "is not the manifest of a knowledge base"),
        (json.dumps({"format": FORMAT, "version": 99}), "of version 99 and this program reads version 1: make it anew"),
        (json.dumps({"format": FORMAT, "version": VERSION}), "lacks 'passages'"),
    ],
)
def test_bad_manifest(manifest, message, folder):
    KnowledgeBase.create(folder, PASSAGES)
    (folder / "manifest.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        KnowledgeBase.open(folder)


@pytest.mark.parametrize("name", ["passages.jsonl", "offsets.npy", "manifest.json"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(name, unprivileged_folder):
    KnowledgeBase.create(unprivileged_folder / "kb", PASSAGES)
    (unprivileged_folder / "kb" / name).chmod(0)
    with pytest.raises(DataError, match=rf"kb/{name} cannot be read: permission denied; make it readable"):
        KnowledgeBase.open(unprivileged_folder / "kb")


def test_offsets_of_another_type(folder):
    KnowledgeBase.create(folder, PASSAGES)
    np.save(folder / "offsets.npy", np.load(folder / "offsets.npy").astype(np.float64))
    with pytest.raises(DataError, match="do not fit"):
        KnowledgeBase.open(folder)


def test_what_a_killed_run_left_behind_goes(folder):
    for name in (".knowledge_base.tmp", ".knowledge_base.previous"):
        (folder.parent / name / "bm25").mkdir(parents=True)
    KnowledgeBase.create(folder, PASSAGES)
    assert [entry.name for entry in folder.parent.iterdir()] == ["knowledge_base"]


def test_damaged_passage_is_named_when_it_is_read(folder):
    KnowledgeBase.create(folder, PASSAGES)
    content = (folder / "passages.jsonl").read_bytes()
    (folder / "passages.jsonl").write_bytes(content.replace(b'{"id"', b'x"id"'))
    opened = KnowledgeBase.open(folder)
    with pytest.raises(DataError, match="passage 1 cannot be decoded"):
        opened[1]
