import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bm25s
import numpy as np
import pytest

from stepsearch.errors import SearchError
from stepsearch.search.bm25_builder import build_postings
from stepsearch.search.bm25_index import BM25Index, index_terms
from stepsearch.search.bm25_vocabulary import Vocabulary, write_vocabulary

DOCUMENTS = [["red", "fox"], ["red", "hen", "red"], ["blue", "sky"]]


def lucene_score(tf: int, length: int, df: int, k1: float = 1.2, b: float = 0.75) -> float:
    average = 7 / 3
    return math.log(1 + (3 - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / average))


def test_terms_are_lower_case_words() -> None:
    assert index_terms("Élan-vital, the 3rd O'Neill_x 北京!") == [
        "élan",
        "vital",
        "the",
        "3rd",
        "o",
        "neill_x",
        "北",
        "京",
    ]
    assert index_terms("東京タワーはTokyoに") == ["東", "京", "タワー", "は", "tokyo", "に"]
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


def written(folder: Path, documents: Sequence[Sequence[str]], **sizes: int) -> BM25Index:
    folder.mkdir()
    return BM25Index([build_postings(folder, documents, **sizes)])


def test_an_index_on_disk_is_memory_mapped_and_equal(tmp_path: Path) -> None:
    written(tmp_path / "bm25", DOCUMENTS)
    opened = BM25Index.open(tmp_path / "bm25")
    assert len(opened) == 3
    assert opened.best(["red", "sky"], 3) == BM25Index.build(DOCUMENTS).best(["red", "sky"], 3)
    assert isinstance(opened.parts[0].documents.base, np.memmap)


def drawn(documents: int, words: int, seed: int = 0) -> list[list[str]]:
    """Return documents of 0 to `words` words, the most frequent ones in most of them, the rare ones in one."""
    draw = np.random.default_rng(seed)
    cumulated = np.cumsum(1 / np.arange(1, 3001))
    ranks = np.searchsorted(cumulated, draw.random((documents, words)) * cumulated[-1])
    return [[f"w{rank}" for rank in row[: number % (words + 1)]] for number, row in enumerate(ranks)]


def plain_scores(documents: Sequence[Sequence[str]], query: Sequence[str]) -> np.ndarray:
    """Return every document's score as the formula says it."""
    average = sum(map(len, documents)) / len(documents)
    scores = np.zeros(len(documents))
    for word in query:
        df = sum(word in document for document in documents)
        idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
        for number, document in enumerate(documents):
            tf = document.count(word)
            scores[number] += idf * tf / (tf + 1.2 * (1 - 0.75 + 0.75 * len(document) / average))
    return scores


def test_the_best_are_those_of_a_plain_computation_whatever_is_left_out_on_the_way() -> None:
    documents = drawn(400, 30)
    index = BM25Index.build(documents)
    for query in [*drawn(60, 9, seed=1), ["w0"], ["w0", "w1", "w2"]]:
        scores = plain_scores(documents, query)
        for count in (1, 3, 10, 1000):
            hits = index.best(query, count)
            best = np.sort(scores[scores > 0])[::-1][:count]
            assert [score for _, score in hits] == pytest.approx(best.tolist(), rel=1e-5)
            assert [scores[position] for position, _ in hits] == pytest.approx(best.tolist(), rel=1e-5)


def test_scores_are_those_of_the_package_bm25s() -> None:
    documents = drawn(300, 30)
    scorer = bm25s.BM25(k1=1.2, b=0.75, method="lucene", backend="numpy")
    vocabulary: dict[str, int] = {}
    ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in document] for document in documents]
    scorer.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    index = BM25Index.build(documents)
    for query in drawn(40, 8, seed=2):
        known = [vocabulary[word] for word in query if word in vocabulary]
        for position, score in index.best(query, 10):
            assert score == pytest.approx(float(scorer.get_scores_from_ids(known)[position]), rel=1e-5)


def test_blocks_and_ranges_of_any_size_give_the_same_files(tmp_path: Path) -> None:
    documents = drawn(300, 30)
    written(tmp_path / "whole", documents)
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    for name, block_words, range_postings in (("blocks", 97, 10**9), ("ranges", 10**9, 1), ("both", 1000, 500)):
        written(tmp_path / name, documents, block_words=block_words, range_postings=range_postings)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == files
        for file in files:
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_several_parts_score_to_the_last_bit_as_one() -> None:
    documents = drawn(300, 30)
    whole = BM25Index.build(documents)
    parts = BM25Index([*BM25Index.build(documents[:250]).parts, *BM25Index.build(documents[250:]).parts])
    for query in drawn(60, 8, seed=3):
        assert parts.best(query, 7) == whole.best(query, 7)


def test_numba_finds_what_numpy_finds_to_the_last_bit() -> None:
    pytest.importorskip("numba")
    documents = drawn(2000, 20)
    plain = BM25Index.build(documents)
    parts = [BM25Index.build(some).parts[0] for some in (documents[:700], documents[700:])]
    compiled = [BM25Index(some, compiled_from=0) for some in (plain.parts, parts)]
    odd = [["w0"], ["w0", "w1", "w2"], ["w1", "w1"], ["w2999", "w0"], ["unknown"], []]
    queries = [*drawn(200, 9, seed=5), *odd]
    for count in (1, 3, 10, 3000):
        expected = [plain.best(query, count) for query in queries]
        for index in compiled:
            assert index.best_of_each(queries, count) == expected
            assert [index.best(query, count) for query in odd] == expected[-len(odd) :]
    for index in (plain, *compiled):
        assert index.best_of_each([[], ["unknown"]], 3) == [[], []]
        assert index.best_of_each([], 3) == []


@pytest.mark.parametrize(("most", "kind"), [(255, np.uint8), (256, np.uint16), (70_000, np.uint32)])
def test_frequencies_of_any_size_are_exact(most: int, kind: type) -> None:
    index = BM25Index.build([["fox"] * most, ["fox", "hen"]])
    assert index.parts[0].frequencies.dtype == kind
    assert index.parts[0].frequencies.tolist() == [most, 1, 1]
    assert index.parts[0].most.tolist() == [most, 1]


def test_the_merging_says_how_far_it_is(tmp_path: Path) -> None:
    shares: list[float] = []
    build_postings(tmp_path, DOCUMENTS, merging=shares.append, range_postings=1)
    assert shares == pytest.approx([2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


def test_words_of_any_script_are_found(tmp_path: Path) -> None:
    words = ["zebra", "a", "é", "北京", "𝔘", "ab", "\uffee"]
    write_vocabulary(tmp_path, words)
    vocabulary = Vocabulary.open(tmp_path)
    assert [vocabulary.term(word) for word in words] == list(range(len(words)))
    assert [vocabulary.term(word) for word in ("", "b", "zebras", "\ud800", "𝔘𝔘")] == [None] * 5


def test_documents_that_may_be_equal_have_the_rarest_word_and_the_length() -> None:
    [postings] = BM25Index.build([["red", "fox"], ["red", "hen"], ["fox", "red"], ["red", "fox", "red"]]).parts
    assert postings.alike(["red", "fox"]) == [0, 2]
    assert postings.alike(["red", "owl"]) == []
    assert postings.alike([]) == []


def test_searches_of_several_threads_do_not_mix() -> None:
    index = BM25Index.build(drawn(400, 30))
    queries = drawn(200, 8, seed=4)
    alone = [index.best(query, 5) for query in queries]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda query: index.best(query, 5), queries)) == alone


ARRAYS = ["starts", "documents", "frequencies", "lengths", "most", "spacing", "word_starts", "word_terms"]


@pytest.mark.parametrize("name", [*(f"{array}.npy" for array in ARRAYS), "words.bin"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_index_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    build_postings(tmp_path, DOCUMENTS)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:-5])
    with pytest.raises(SearchError, match="BM25 index"):
        BM25Index.open(tmp_path)


def test_files_of_two_indexes_do_not_make_one(tmp_path: Path) -> None:
    written(tmp_path / "a", DOCUMENTS)
    written(tmp_path / "b", [*DOCUMENTS, ["new", "words"]])
    for name in ("words.bin", "word_starts.npy", "word_terms.npy"):
        (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(SearchError, match="not whole"):
        BM25Index.open(tmp_path / "a")
