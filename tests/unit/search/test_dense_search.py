"""Dense search with a tiny encoder: its files, what is refused, and what goes on after an interruption."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepsearch.config import DenseSearchSettings, SearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import DataError, SearchError
from stepsearch.search import BM25SearchEngine, DenseSearchEngine, build_search_engine, dense_encoding, dense_files
from stepsearch.search.encoder import Vectors
from stepsearch.search.engine_identity import engine_identity
from stepsearch.search.text_encoder import TextEncoder
from stepsearch.types import Passage

TEXTS = ["red fox", "brown hen", "red hen", "grey wolf"]


@pytest.fixture(scope="module")
def model(word_encoder: Callable[[str], Path]) -> Path:
    return word_encoder("red fox brown hen grey wolf owl the a old opening")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    KnowledgeBase.create(tmp_path / "kb", map(Passage.from_text, TEXTS))
    return tmp_path / "kb"


def settings(model: Path, **others: Any) -> DenseSearchSettings:
    return DenseSearchSettings(encoder=str(model), **others)


def texts(passages: Sequence[Passage]) -> list[str]:
    return [passage.text for passage in passages]


class Counting:
    """An encoder that counts what it encodes, and fails when a text is met."""

    guards_itself = False
    facts: dict[str, Any] = {"pooling": "mean"}  # noqa: RUF012 - as the protocol has it

    def __init__(self, breaks_at: str = "") -> None:
        self.encoded: list[str] = []
        self.breaks_at = breaks_at

    def encode_queries(self, queries: Sequence[str]) -> Vectors:
        return np.array([[len(query), 1.0] for query in queries], dtype=np.float32)

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        if self.breaks_at in texts(passages):
            raise KeyboardInterrupt
        self.encoded += [passage.text for passage in passages if passage.id != "probe"]
        return self.encode_queries(texts(passages))

    def close(self) -> None:
        pass


def test_an_index_is_built_and_opened_by_what_its_manifest_says(corpus: Path, model: Path) -> None:
    built = DenseSearchEngine.build(corpus, settings(model, passage_prefix="the "))
    opened = DenseSearchEngine.open(corpus, DenseSearchSettings())
    found = opened.search("red hen", 9)
    assert found == built.search("red hen", 9)
    assert texts(found[:1]) == ["red hen"]
    assert found[0].score == pytest.approx((2 / 3) ** 0.5, abs=0.02)  # two words of three
    assert sorted(path.name for path in corpus.iterdir() if path.name[0] == ".") == []
    assert sorted(path.name for path in (corpus / "dense").iterdir()) == ["manifest.json", "probe.npy", "vectors.npy"]


def test_small_scores_can_be_left_out(corpus: Path, model: Path) -> None:
    assert len(DenseSearchEngine.build(corpus, settings(model)).search("wolf", 9)) == 4
    engine = DenseSearchEngine.open(corpus, DenseSearchSettings(min_score=0.3))
    assert texts(engine.search("wolf", 9)) == ["grey wolf"]


def test_settings_that_the_index_was_not_made_with_are_refused(corpus: Path, model: Path) -> None:
    DenseSearchEngine.build(corpus, settings(model, query_prefix="a "))
    with pytest.raises(SearchError, match=r"was made with search\.dense\.query_prefix='a ', and 'b ' is asked for"):
        DenseSearchEngine.open(corpus, DenseSearchSettings(query_prefix="b "))


def test_a_folder_may_move_but_another_model_is_refused(
    corpus: Path, model: Path, word_encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    DenseSearchEngine.build(corpus, settings(model))
    moved = shutil.copytree(model, tmp_path / "moved")
    assert texts(DenseSearchEngine.open(corpus, settings(moved)).search("wolf", 1)) == ["grey wolf"]
    other = word_encoder("the fox library of old town opens at nine in")
    with pytest.raises(SearchError, match=r"made by another encoder .*leave out search\.dense\.encoder, or make it"):
        DenseSearchEngine.open(corpus, settings(other))


def test_an_encoder_whose_files_have_changed_is_told_so(
    corpus: Path, model: Path, word_encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    mine = shutil.copytree(model, tmp_path / "mine")
    DenseSearchEngine.build(corpus, settings(mine))
    shutil.copytree(word_encoder("the fox library of old town opens at nine in"), mine, dirs_exist_ok=True)
    for chosen in (DenseSearchSettings(), settings(mine)):
        with pytest.raises(
            SearchError, match=rf"made by {mine}, which has changed since: make it anew with stepsearch"
        ):
            DenseSearchEngine.open(corpus, chosen)


def test_an_index_that_cannot_be_used_says_how_to_make_one(corpus: Path, model: Path) -> None:
    def refused(problem: str) -> None:
        with pytest.raises(
            SearchError, match=rf"{problem}.*stepsearch index-dense --knowledge-base {corpus} --encoder"
        ):
            DenseSearchEngine.open(corpus, DenseSearchSettings())

    refused("is missing")
    DenseSearchEngine.build(corpus, settings(model))
    vectors = corpus / "dense" / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-1])
    refused("cannot be read")
    np.save(vectors, np.zeros((3, 128), dtype=np.float32))
    refused("does not have one vector for each passage")
    (corpus / "dense" / "manifest.json").write_text("{")
    refused("is damaged")


def test_a_knowledge_base_that_was_made_anew_is_refused(corpus: Path, model: Path) -> None:
    DenseSearchEngine.build(corpus, settings(model))
    shutil.move(corpus / "dense", corpus.parent / "dense")
    KnowledgeBase.create(corpus, [Passage.from_text("other")])
    shutil.move(corpus.parent / "dense", corpus / "dense")
    with pytest.raises(SearchError, match="was made of other passages"):
        DenseSearchEngine.open(corpus, DenseSearchSettings())


def test_an_interrupted_build_goes_on_where_it_was(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_encoding, "SHARD", 1)
    knowledge_base, chosen = KnowledgeBase.open(corpus), DenseSearchSettings(encoder="counting")
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        dense_encoding.index_knowledge_base(knowledge_base, Counting(breaks_at=TEXTS[2]), chosen, done.append)
    assert done == [1, 1]
    second = Counting()
    dense_encoding.index_knowledge_base(knowledge_base, second, chosen)
    assert second.encoded == TEXTS[2:]
    assert np.load(corpus / "dense" / "vectors.npy")[:, 0].tolist() == [7, 9, 7, 9]
    assert [path.name for path in corpus.iterdir() if "partial" in path.name or ".tmp" in path.name] == []


def test_what_another_encoder_has_begun_is_not_gone_on_with(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_encoding, "SHARD", 1)
    knowledge_base = KnowledgeBase.open(corpus)
    with pytest.raises(KeyboardInterrupt):
        dense_encoding.index_knowledge_base(
            knowledge_base, Counting(breaks_at=TEXTS[2]), DenseSearchSettings(encoder="counting")
        )
    second = Counting()
    dense_encoding.index_knowledge_base(knowledge_base, second, DenseSearchSettings(encoder="another"))
    assert second.encoded == TEXTS


def test_added_documents_are_saved_without_encoding_again(corpus: Path, model: Path, tmp_path: Path) -> None:
    engine = DenseSearchEngine.build(corpus, settings(model))
    engine.add_documents(["grey owl", "red fox", "grey owl"])
    assert texts(engine.search("owl", 1)) == ["grey owl"]
    for folder in (tmp_path / "new", corpus):
        engine.save(folder, settings(model))
        opened = DenseSearchEngine.open(folder, DenseSearchSettings())
        assert opened.search_batch(["owl", "red"], 9) == engine.search_batch(["owl", "red"], 9)
        assert len(opened.search("owl", 99)) == 5


def test_passages_in_memory_are_searched_too(model: Path) -> None:
    encoder = TextEncoder.load(str(model), DenseSearchSettings())
    engine = DenseSearchEngine.from_passages(
        [Passage("1", "red fox"), Passage("1", "old"), Passage("2", "hen")], encoder
    )
    assert [passage.id for passage in engine.search("fox", 9)] == ["1", "2"]
    with pytest.raises(SearchError, match="there are no passages"):
        DenseSearchEngine.from_passages([], encoder)


def test_a_large_corpus_is_compressed(corpus: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    many = [Passage(str(place), f"{text} {'the ' * place}") for place in range(20) for text in TEXTS[place % 4 :][:1]]
    KnowledgeBase.create(corpus, many)
    monkeypatch.setattr(dense_files, "COMPRESSED_FROM", 10)
    monkeypatch.setattr(dense_files, "faiss_kind", lambda count: "IVF1,SQ8")
    engine = DenseSearchEngine.build(corpus, settings(model))
    assert (corpus / "dense" / "compressed.faiss").exists()
    reopened = DenseSearchEngine.open(corpus, DenseSearchSettings())
    assert reopened.search("wolf", 3) == engine.search("wolf", 3)
    assert [passage.id for passage in engine.search("wolf", 2)] == ["3", "7"]


def test_the_settings_name_it_and_hybrid_fuses_it_with_bm25(corpus: Path, model: Path) -> None:
    BM25SearchEngine.build(corpus)
    DenseSearchEngine.build(corpus, settings(model))
    chosen = SearchSettings.model_validate({"engine_type": "hybrid", "hybrid": {"engines": ["bm25", "dense"]}})
    found = build_search_engine(chosen, corpus).search_batch(["red hen", "wolf"], 2)
    assert texts(found[0])[0] == "red hen"
    assert found[0][0].score == pytest.approx(2 / 61)  # first of both
    assert texts(found[1])[0] == "grey wolf"
    before = engine_identity(chosen, corpus)
    DenseSearchEngine.build(corpus, settings(model, passage_prefix="old "))
    assert engine_identity(chosen, corpus) != before


def test_without_a_knowledge_base_or_an_encoder(corpus: Path) -> None:
    with pytest.raises(SearchError, match=r"search\.engine_type dense searches a knowledge base"):
        build_search_engine(SearchSettings(engine_type="dense"))
    with pytest.raises(SearchError, match=r"set search\.dense\.encoder"):
        DenseSearchEngine.build(corpus, DenseSearchSettings())
    with pytest.raises(DataError, match="is no knowledge base"):
        DenseSearchEngine.open(corpus.parent / "none", DenseSearchSettings())


def test_indexing_the_same_passages_for_bm25_again_leaves_the_vectors(corpus: Path, model: Path) -> None:
    DenseSearchEngine.build(corpus, settings(model)).close()
    before = DenseSearchEngine.open(corpus, DenseSearchSettings()).search("fox", 2)
    BM25SearchEngine.create(corpus, KnowledgeBase.open(corpus))
    assert DenseSearchEngine.open(corpus, DenseSearchSettings()).search("fox", 2) == before
