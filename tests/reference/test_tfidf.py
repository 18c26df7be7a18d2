"""The TF-IDF cosines against scikit-learn, fitted anew for every document."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction import text as sklearn_text

from stepsearch.matching.stop_words import ENGLISH_STOP_WORDS
from stepsearch.matching.tfidf import NO_STOP_WORDS, GoldenTerms

REAL_DATA = Path(os.environ.get("STEPSEARCH_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
MUSIQUE = REAL_DATA / "musique_ans_v1.0_dev.sample100.jsonl"

# Few words, so that texts share them; the rest is whatever Unicode holds.
WORDS = st.sampled_from(
    ["the", "of", "Fox", "fox", "hen", "RED", "né", "x", "42", "is", "in", "_", "o'neil", "北京", "ß"]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=12).map(" ".join), st.text(max_size=20))


def sklearn_cosines(corpus: list[str], stop_words: str | None = None) -> list[float]:
    """Return the cosines of the first text to each other one; 0 where scikit-learn refuses an empty vocabulary."""
    vectorizer = sklearn_text.TfidfVectorizer(stop_words=stop_words)
    if not any(map(vectorizer.build_analyzer(), corpus)):
        return [0.0] * (len(corpus) - 1)
    matrix = vectorizer.fit_transform(corpus)
    return (matrix[0] @ matrix[1:].T).toarray()[0].tolist()


def test_stop_words_are_scikit_learns() -> None:
    assert ENGLISH_STOP_WORDS == sklearn_text.ENGLISH_STOP_WORDS


@pytest.mark.parametrize(("name", "stop_words"), [(None, NO_STOP_WORDS), ("english", ENGLISH_STOP_WORDS)])
@settings(max_examples=60, deadline=None)
@given(document=TEXTS, golden=st.lists(TEXTS, min_size=1, max_size=4))
def test_cosines_to_golden_documents(
    name: str | None, stop_words: frozenset[str], document: str, golden: list[str]
) -> None:
    cosines = GoldenTerms(golden, stop_words).cosines(document)
    assert cosines == pytest.approx(sklearn_cosines([document, *golden], name), abs=1e-9)


@pytest.mark.parametrize(("name", "stop_words"), [(None, NO_STOP_WORDS), ("english", ENGLISH_STOP_WORDS)])
@settings(max_examples=60, deadline=None)
@given(first=TEXTS, second=TEXTS, golden=st.lists(TEXTS, max_size=4))
def test_cosine_between_documents(
    name: str | None, stop_words: frozenset[str], first: str, second: str, golden: list[str]
) -> None:
    terms = GoldenTerms(golden, stop_words)
    cosine = terms.cosine_of_pair(terms.pair_terms(first), terms.pair_terms(second))
    assert cosine == pytest.approx(sklearn_cosines([first, second, *golden], name)[0], abs=1e-9)


@pytest.mark.skipif(not MUSIQUE.exists(), reason=f"no genuine MuSiQue sample at {MUSIQUE}")
def test_cosines_between_genuine_paragraphs() -> None:
    records = [json.loads(line) for line in MUSIQUE.read_text(encoding="utf-8").splitlines()[:10]]
    for record in records:
        texts = [paragraph["paragraph_text"] for paragraph in record["paragraphs"]]
        golden = GoldenTerms(texts[:4])
        for document in texts[4:16]:
            assert golden.cosines(document) == pytest.approx(sklearn_cosines([document, *texts[:4]]), abs=1e-9)
