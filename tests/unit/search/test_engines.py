import json
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("name", ["gogle", "Wiki"])
def test_an_engine_that_is_not_there_is_named_with_those_that_are(name: str) -> None:
    with pytest.raises(SearchError, match=rf"{name} is not .* of wiki, bm25, dense, remote, mcp, hybrid, mock, for"):
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


def test_canned_results_from_a_file(tmp_path: Path) -> None:
    documents = ["Paris", {"id": "r", "title": "Rome", "text": "A city."}]
    (tmp_path / "canned.json").write_text(json.dumps({"capital": documents}), encoding="utf-8")
    settings = SearchSettings.model_validate(
        {"engine_type": "mock", "mock": {"results": str(tmp_path / "canned.json")}}
    )
    engine = build_search_engine(settings)
    assert engine.search_batch(["capital", "mayor"]) == [
        [Passage.from_text("Paris"), Passage("r", "A city.", "Rome")],
        [],
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[]", "an object of queries, not a list"),
        ('{"a": "text"}', "query 'a': must have a list of documents"),
        ('{"a": [{"id": 1}]}', "query 'a': a document has no contents"),
    ],
)
def test_a_file_of_canned_results_that_is_wrong(tmp_path: Path, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "canned.json").write_text(content, encoding="utf-8")
    settings = SearchSettings.model_validate(
        {"engine_type": "mock", "mock": {"results": str(tmp_path / "canned.json")}}
    )
    with pytest.raises(SearchError, match=problem) as caught:
        build_search_engine(settings)
    assert str(caught.value).startswith(f"search.mock.results: {tmp_path / 'canned.json'}")


def test_remote_is_asked_once_before_a_run_begins(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = loopback(lambda request: (200, {}, b'{"result": [[]]}'))
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    remote = {"url": f"{server.url}/retrieve", "token_variable": "MY_TOKEN"}
    settings = SearchSettings.model_validate({"engine_type": "remote", "remote": remote})
    engine = build_search_engine(settings)
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer s3cret"]
    engine.close()
    server.stop()
    with pytest.raises(SearchError, match=r"search\.engine_type remote: .*/retrieve failed after 1 try"):
        build_search_engine(settings.model_copy(update={"retries": 0}))


@pytest.mark.parametrize("token", ["a\nb", "pässword"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("STEPSEARCH_TOKEN", token)
    with pytest.raises(SearchError, match="STEPSEARCH_TOKEN holds no bearer token") as caught:
        build_search_engine(SearchSettings(engine_type="remote"))
    assert token not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks9://127.0.0.1:1", "nonsense:::"])
def test_a_proxy_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    for engine_type in ("remote", "wiki"):
        with pytest.raises(SearchError, match="through the proxy of the environment"):
            build_search_engine(SearchSettings(engine_type=engine_type))
