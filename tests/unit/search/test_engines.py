from pathlib import Path

import pytest

from stepsearch.config import SearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import SearchError
from stepsearch.search import ENGINES, BM25SearchEngine, MockSearchEngine, SearchEngine, build_search_engine
from stepsearch.types import Passage


def test_bm25_opens_the_knowledge_base_it_is_given(tmp_path: Path) -> None:
    for name in ("given", "named"):
        KnowledgeBase.create(tmp_path / name, [Passage.from_text(f"The {name} fox.")])
        BM25SearchEngine.build(tmp_path / name)
    settings = SearchSettings(engine_type="bm25", knowledge_base=str(tmp_path / "named"))
    for engine, text in (
        (build_search_engine(settings), "The named fox."),
        (build_search_engine(settings, tmp_path / "given"), "The given fox."),
    ):
        (passage,) = engine.search_batch(["fox"])[0]
        assert passage.text == text


def test_mock_needs_nothing() -> None:
    engine = build_search_engine(SearchSettings(engine_type="mock"))
    assert [passage.text for passage in engine.search_batch(["x"], 2)[0]] == [
        "Made-up document 1 about x.",
        "Made-up document 2 about x.",
    ]


def test_bm25_without_a_knowledge_base_says_what_to_do() -> None:
    with pytest.raises(SearchError, match=r"search\.knowledge_base=DIR"):
        build_search_engine(SearchSettings(engine_type="bm25"))


@pytest.mark.parametrize("name", ["wiki", "gogle"])
def test_an_engine_that_is_not_there_is_named_with_those_that_are(name: str) -> None:
    with pytest.raises(SearchError, match=rf"{name} is not available: choose one of bm25, mock"):
        build_search_engine(SearchSettings(engine_type=name))


def test_an_engine_of_ones_own_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(SearchEngine):
        def search(self, query: str, top_k: int = 3) -> list[str]:
            return ["mine"]

    monkeypatch.setitem(ENGINES, "mine", lambda settings, knowledge_base: Mine())
    assert isinstance(build_search_engine(SearchSettings(engine_type="mine")), Mine)


def test_canned_results() -> None:
    engine = MockSearchEngine({"capital": ["Paris", "Rome"]})
    assert engine.search("capital", 1) == ["Paris"]
    assert engine.search("mayor") == []
