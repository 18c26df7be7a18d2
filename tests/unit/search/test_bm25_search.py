import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepsearch.config import SearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import DataError, SearchError
from stepsearch.search import BM25SearchEngine
from stepsearch.search.engine_identity import engine_identity
from stepsearch.types import Passage

PASSAGES = [
    Passage.from_text("A red fox lives in the wood.", "Fox"),
    Passage.from_text("It is the capital of France.", "Paris"),
    Passage.from_text("The fox of this story is red; so is the hen.", "Fable"),
    Passage.from_text("巴黎 是 法国 的 首都", "巴黎"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    KnowledgeBase.create(tmp_path / "kb", PASSAGES)
    BM25SearchEngine.build(tmp_path / "kb")
    return tmp_path / "kb"


def titles(results: list[Passage]) -> list[str]:
    return [passage.title for passage in results]


def test_titles_are_searched_and_count_twice() -> None:
    engine = BM25SearchEngine.from_passages(PASSAGES)
    assert titles(engine.search("paris")) == ["Paris"]
    once = BM25SearchEngine.from_passages([Passage.from_text("fox fox den"), Passage.from_text("den", title="fox")])
    assert [passage.title for passage in once.search("fox")] == ["", "fox"]
    assert once.search("fox")[0].score == once.search("fox")[1].score


def test_results_carry_scores_best_first() -> None:
    engine = BM25SearchEngine.from_passages(PASSAGES)
    results = engine.search("the red fox", top_k=10)
    assert titles(results)[:2] == ["Fox", "Fable"]
    scores = [passage.score for passage in results]
    assert scores == sorted(scores, reverse=True)
    assert results[0].text == PASSAGES[0].text
    assert results[0].id == PASSAGES[0].id


def test_other_scripts_are_found() -> None:
    assert titles(BM25SearchEngine.from_passages(PASSAGES).search("法国")) == ["巴黎"]


def test_passages_of_one_id_are_one_passage() -> None:
    engine = BM25SearchEngine.from_passages([*PASSAGES, *PASSAGES])
    assert titles(engine.search("capital france", 10)) == ["Paris"]


def test_without_passages_or_words_nothing_is_found_until_some_are_added() -> None:
    for passages in ([], [Passage.from_text("?!")]):
        engine = BM25SearchEngine.from_passages(passages)
        assert engine.search("fox") == []
        engine.add_documents(["A fox."])
        assert [passage.text for passage in engine.search("fox")] == ["A fox."]


def test_added_documents_are_found_and_not_added_twice(folder: Path) -> None:
    engine = BM25SearchEngine.open(folder)
    engine.add_documents(["An owl.", "An owl."])
    engine.add_documents(["An owl."])
    assert [passage.text for passage in engine.search("owl", 5)] == ["An owl."]
    assert titles(engine.search("capital")) == ["Paris"]
    assert BM25SearchEngine.open(folder).search("owl") == []


def test_what_was_added_lasts_when_saved(folder: Path) -> None:
    engine = BM25SearchEngine.open(folder)
    engine.add_documents(["An owl."])
    for target in (folder, folder.with_name("copy")):
        engine.save(target)
        assert BM25SearchEngine.open(target).search("owl red fox") == engine.search("owl red fox")


def test_saving_into_its_own_folder_writes_only_what_was_added(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    engine = BM25SearchEngine.open(folder)
    engine.save(folder)
    assert not (folder / "added").exists()
    engine.add_documents(["An owl and a fox."])
    engine.save(folder)
    assert {path: path.read_bytes() for path in before} == before
    names = ["added", "bm25", "manifest.json", "offsets.npy", "passages.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == names
    again = BM25SearchEngine.open(folder)
    again.add_documents(["An owl and a fox.", "An elk."])
    again.save(folder)
    assert len(BM25SearchEngine.open(folder)) == len(PASSAGES) + 2


def test_scores_are_exact_before_and_after_compacting(folder: Path) -> None:
    texts = ["An owl and a red fox.", "The capital of owls.", "Fox, fox, fox."]
    whole = BM25SearchEngine.from_passages([*PASSAGES, *map(Passage.from_text, texts)])
    engine = BM25SearchEngine.open(folder)
    engine.add_documents(texts[:1])
    engine.add_documents(texts[1:])
    queries = ["red fox", "the capital owl", "fox", "法国", "zzz"]
    expected = whole.search_batch(queries, 10)
    assert engine.search_batch(queries, 10) == expected
    engine.save(folder)
    engine.compact()
    assert engine.search_batch(queries, 10) == expected
    assert BM25SearchEngine.open(folder).search_batch(queries, 10) == expected
    assert not (folder / "added").exists()


def test_what_the_passages_hold_is_not_added_again_and_what_has_no_word_not_at_all(folder: Path) -> None:
    KnowledgeBase.create(folder, [*PASSAGES, Passage("own-id", "A bare fox.")])
    engine = BM25SearchEngine.build(folder)
    engine.add_documents(["A bare fox.", "?!", ""])
    assert len(engine) == 5
    # The same words in another order, and the text of a passage that has a title besides.
    engine.add_documents(["A fox bare.", PASSAGES[0].text])
    assert len(engine) == 7


def test_an_engine_in_memory_cannot_be_compacted() -> None:
    with pytest.raises(SearchError, match="save it"):
        BM25SearchEngine.from_passages(PASSAGES).compact()


def test_a_failed_creation_leaves_the_old_knowledge_base(folder: Path) -> None:
    def failing() -> Iterator[Passage]:
        yield Passage.from_text("An owl.")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        BM25SearchEngine.create(folder, failing())
    assert titles(BM25SearchEngine.open(folder).search("capital")) == ["Paris"]
    assert [path.name for path in folder.parent.iterdir()] == ["kb"]


def test_indexing_says_how_far_it_is(tmp_path: Path) -> None:
    shares: list[float] = []
    BM25SearchEngine.create(tmp_path / "kb", PASSAGES, shares.append)
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_the_cache_tells_a_grown_corpus_from_the_old_one(folder: Path) -> None:
    settings = SearchSettings(engine_type="bm25")
    before = engine_identity(settings, folder)
    engine = BM25SearchEngine.open(folder)
    engine.add_documents(["An owl."])
    engine.save(folder)
    assert engine_identity(settings, folder) != before


def test_an_opened_engine_answers_as_the_one_in_memory(folder: Path) -> None:
    queries = ["red fox", "capital of france", "", "法国", "the"]
    opened, in_memory = BM25SearchEngine.open(folder), BM25SearchEngine.from_passages(PASSAGES)
    assert opened.search_batch(queries, 3) == in_memory.search_batch(queries, 3)


def test_opening_takes_the_index_as_it_is_and_reads_only_passages_that_are_found(folder: Path) -> None:
    lines = (folder / "passages.jsonl").read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b"red fox", b"red hen")
    lines[1] = b"x" + lines[1][1:]
    (folder / "passages.jsonl").write_bytes(b"".join(lines))
    engine = BM25SearchEngine.open(folder)
    assert [passage.text for passage in engine.search("wood")] == ["A red hen lives in the wood."]
    assert titles(engine.search("fox")) == ["Fox", "Fable"]
    with pytest.raises(DataError, match="passage 1 cannot be decoded"):
        engine.search("capital")


def test_the_files_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from stepsearch.search import BM25SearchEngine;"
        "BM25SearchEngine.build(Path(sys.argv[1]))"
    )
    written: list[dict[str, bytes]] = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        KnowledgeBase.create(folder, PASSAGES)
        subprocess.run(
            [sys.executable, "-c", program, str(folder)], check=True, env=os.environ | {"PYTHONHASHSEED": seed}
        )
        written.append({path.name: path.read_bytes() for path in (folder / "bm25").iterdir()})
    assert written[0] == written[1]


def test_building_again_leaves_nothing_behind(folder: Path) -> None:
    BM25SearchEngine.build(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["bm25", "manifest.json", "offsets.npy", "passages.jsonl"]


def test_a_knowledge_base_without_an_index_says_how_to_make_one(tmp_path: Path) -> None:
    KnowledgeBase.create(tmp_path / "kb", PASSAGES)
    with pytest.raises(SearchError, match=r"bm25 is missing: make it anew with stepsearch index --input .*kb"):
        BM25SearchEngine.open(tmp_path / "kb")


def test_an_index_of_other_passages_is_refused(folder: Path, tmp_path: Path) -> None:
    KnowledgeBase.create(tmp_path / "other", PASSAGES[:2])
    (folder / "bm25").rename(tmp_path / "other" / "bm25")
    with pytest.raises(SearchError, match="made of other passages"):
        BM25SearchEngine.open(tmp_path / "other")


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps({"index_version": 0})])
def test_a_damaged_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / "bm25" / "stepsearch.json").write_text(content, encoding="utf-8")
    with pytest.raises(SearchError, match="make it anew"):
        BM25SearchEngine.open(folder)


@pytest.mark.parametrize("name", ["documents.npy", "words.bin"])
def test_an_index_that_lacks_a_file_says_how_to_make_it_anew(folder: Path, name: str) -> None:
    (folder / "bm25" / name).unlink()
    with pytest.raises(SearchError, match=rf"bm25 lacks {name}: make it anew with stepsearch index --input {folder} "):
        BM25SearchEngine.open(folder)


def test_a_cut_index_says_how_to_make_it_anew(folder: Path) -> None:
    (folder / "bm25" / "documents.npy").write_bytes(b"")
    with pytest.raises(SearchError, match=r"bm25 cannot be read \(.*\): make it anew with stepsearch index"):
        BM25SearchEngine.open(folder)


@pytest.mark.parametrize("name", ["documents.npy", "stepsearch.json"])
def test_an_index_that_may_not_be_read_is_not_called_damaged(unprivileged_folder: Path, name: str) -> None:
    BM25SearchEngine.create(unprivileged_folder / "kb", PASSAGES).close()
    (unprivileged_folder / "kb" / "bm25" / name).chmod(0)
    with pytest.raises(DataError, match=rf"{name} cannot be read: permission denied"):
        BM25SearchEngine.open(unprivileged_folder / "kb")


def test_what_is_no_knowledge_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no knowledge base"):
        BM25SearchEngine.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no knowledge base"):
        BM25SearchEngine.build(tmp_path)


def test_passages_without_words_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="nothing to save"):
        BM25SearchEngine.from_passages([Passage.from_text("?!")]).save(tmp_path / "kb")
    assert not (tmp_path / "kb").exists()
