import math

import numpy as np
import pytest

from stepsearch.errors import SearchError
from stepsearch.search.bm25_index import BM25Index, index_terms

DOCUMENTS = [["red", "fox"], ["red", "hen", "red"], ["blue", "sky"]]


def lucene_score(tf: int, length: int, df: int, k1: float = 1.2, b: float = 0.75) -> float:
    average = 7 / 3
    return math.log(1 + (3 - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / average))


def test_terms_are_lower_case_words() -> None:
    assert index_terms("Élan-vital, the 3rd O'Neill_x 北京!") == ["élan", "vital", "the", "3rd", "o", "neill_x", "北京"]
    assert index_terms("?!") == []


def test_scores_are_bm25s() -> None:
    index = BM25Index.build(DOCUMENTS)
    expected = [(1, lucene_score(2, 3, 2)), (0, lucene_score(1, 2, 2))]
    assert index.best(["red"], 5) == [(position, pytest.approx(score)) for position, score in expected]
    (position, score), *_ = index.best(["red", "fox"], 1)
    assert (position, score) == (0, pytest.approx(lucene_score(1, 2, 2) + lucene_score(1, 2, 1)))


def test_a_term_counts_as_often_as_it_is_asked_for() -> None:
    index = BM25Index.build(DOCUMENTS)
    assert index.best(["fox", "fox"], 1)[0][1] == pytest.approx(2 * index.best(["fox"], 1)[0][1])


def test_of_equal_scores_the_earlier_document_comes_first_whatever_the_count() -> None:
    index = BM25Index.build([["fox"], ["hen"]] * 50)
    for count in (1, 2, 7, 49, 50, 80):
        assert [position for position, _ in index.best(["hen"], count)] == list(range(1, 100, 2))[:count]


def test_what_shares_no_term_is_not_found() -> None:
    index = BM25Index.build(DOCUMENTS)
    assert [position for position, _ in index.best(["sky", "unknown"], 3)] == [2]
    assert index.best(["unknown"], 3) == []
    assert index.best([], 3) == []
    assert index.best(["red"], 0) == []


def test_documents_without_words_are_kept_but_never_found() -> None:
    index = BM25Index.build([[], ["fox"], []])
    assert len(index) == 3
    assert [position for position, _ in index.best(["fox"], 3)] == [1]


def test_nothing_to_index_is_an_error() -> None:
    for documents in ([], [[], []]):
        with pytest.raises(SearchError, match="no words"):
            BM25Index.build(documents)


def test_a_saved_index_is_memory_mapped_and_equal(tmp_path) -> None:
    index = BM25Index.build(DOCUMENTS)
    index.save(tmp_path / "bm25")
    opened = BM25Index.open(tmp_path / "bm25")
    assert len(opened) == 3
    assert opened.best(["red", "sky"], 3) == index.best(["red", "sky"], 3)
    assert isinstance(opened._scorer.scores["data"].base, np.memmap)


@pytest.mark.parametrize(
    "name", ["data.csc.index.npy", "indptr.csc.index.npy", "vocab.index.json", "params.index.json"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_index_is_refused(tmp_path, name: str, damage: str) -> None:
    BM25Index.build(DOCUMENTS).save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:-5])
    with pytest.raises(SearchError, match="BM25 index"):
        BM25Index.open(tmp_path)


def test_files_of_two_indexes_do_not_make_one(tmp_path) -> None:
    BM25Index.build(DOCUMENTS).save(tmp_path / "a")
    BM25Index.build([*DOCUMENTS, ["new", "words"]]).save(tmp_path / "b")
    (tmp_path / "a" / "vocab.index.json").write_bytes((tmp_path / "b" / "vocab.index.json").read_bytes())
    with pytest.raises(SearchError, match="not whole"):
        BM25Index.open(tmp_path / "a")
