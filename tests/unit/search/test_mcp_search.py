"""Search by the tools of a real MCP server, over standard streams and over HTTP, alive and dead."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stepsearch.config import SearchSettings
from stepsearch.errors import SearchError
from stepsearch.search import GuardedSearch, MCPSearchEngine, MCPServer, SearchOutcome, build_search_engine
from stepsearch.search.mcp_search import passages_from_tool
from stepsearch.types import Passage

FOX, HEN = Passage.from_text("The red fox lives in the wood."), Passage.from_text("A red hen.")
TITLED = [Passage("0", FOX.text, "A text"), Passage("1", HEN.text, "A text")]


@pytest.fixture(scope="module")
def find(mcp_program: tuple[str, ...]) -> Iterator[MCPSearchEngine]:
    """The tool that answers with JSON in a text, in a process that the engine starts."""
    engine = MCPSearchEngine(MCPServer(mcp_program, environment={"SEARCH_KEY": "k3y"}), "find", "question")
    yield engine
    engine.close()


def test_over_standard_streams(find: MCPSearchEngine) -> None:
    find.check()
    assert find.search_batch(["red", "", "zzz", "red"], 3) == [TITLED, [], [], TITLED]
    assert find.search("red", 1) == TITLED[:1]


def test_the_process_gets_the_variables_it_is_meant_to_get(find: MCPSearchEngine) -> None:
    assert find.search("variable") == [Passage.from_text("k3y")]


def test_a_tools_error_fails_its_query_alone(find: MCPSearchEngine) -> None:
    with pytest.raises(SearchError, match=r"the MCP tool 'find' failed: .*cannot search for that"):
        find.search("break")
    outcomes = GuardedSearch(find, retries=0).search_batch(["red", "break"])
    assert outcomes == [SearchOutcome(tuple(TITLED)), SearchOutcome((), failed=True)]


def test_a_server_that_dies_is_started_again(find: MCPSearchEngine) -> None:
    with pytest.raises(SearchError, match=r"the MCP server .* failed: MCPError: Connection closed"):
        find.search("die")
    assert find.search("red") == TITLED


def test_over_http_with_and_without_the_number_of_documents(mcp_url: str) -> None:
    for top_k_argument in ("k", None):
        engine = MCPSearchEngine(MCPServer(url=mcp_url, token="s3cret"), top_k_argument=top_k_argument)
        assert engine.search("red", 1) == [FOX]
        assert engine.search("red", 5) == [FOX, HEN]
        engine.close()
        engine.close()


def test_many_queries_at_once(mcp_url: str) -> None:
    engine = MCPSearchEngine(MCPServer(url=mcp_url))
    queries = [f"red {number}" for number in range(20)]
    assert engine.search_batch(queries) == [[FOX, HEN]] * 20
    engine.close()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tool": "serch"}, r"no tool 'serch': set search\.mcp\.tool to one of search, find"),
        ({"query_argument": "q"}, r"no argument 'q': set search\.mcp\.query_argument to one of query, k"),
        ({"top_k_argument": "n"}, r"no argument 'n': set search\.mcp\.top_k_argument to one of query, k"),
    ],
)
def test_what_the_server_has_not_is_named_at_the_start(mcp_url: str, options: Any, problem: str) -> None:
    engine = MCPSearchEngine(MCPServer(url=mcp_url), **options)
    with pytest.raises(SearchError, match=problem):
        engine.check()
    engine.close()


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        (MCPServer(("no-such-program-anywhere",)), r"cannot be started; name .* with search\.mcp\.command"),
        (MCPServer((sys.executable, "-c", "")), "Connection closed"),
        (MCPServer(url="http://127.0.0.1:9/mcp"), "failed"),
    ],
)
def test_a_server_that_is_none(server: MCPServer, problem: str) -> None:
    engine = MCPSearchEngine(server, timeout_seconds=10)
    with pytest.raises(SearchError, match=f"the MCP server .* failed: .*{problem}|{problem}"):
        engine.check()
    engine.close()


def test_a_server_that_says_nothing_is_given_up() -> None:
    engine = MCPSearchEngine(MCPServer((sys.executable, "-c", "import time; time.sleep(60)")), timeout_seconds=0.5)
    started = time.perf_counter()
    with pytest.raises(SearchError, match="failed"):
        engine.check()
    engine.close()
    assert time.perf_counter() - started < 15


@pytest.mark.parametrize(
    ("structured", "texts", "passages"),
    [
        ({"result": ["a", "b"]}, ["a", "b"], [Passage.from_text("a"), Passage.from_text("b")]),
        ({"count": 1, "hits": [{"title": "T", "snippet": "s", "score": 2}]}, [], [Passage.from_text("s", "T")]),
        ({"result": "just a text"}, ["just a text"], [Passage.from_text("just a text")]),
        (None, ["a", " ", "b"], [Passage.from_text("a"), Passage.from_text("b")]),
        (None, ['[{"document": {"id": "7", "contents": "\\"T\\"\\ns"}, "score": 1}]'], [Passage("7", "s", "T", 1.0)]),
        (None, ['{"title": "T", "text": "s"}'], [Passage.from_text("s", "T")]),
        (None, ["42"], [Passage.from_text("42")]),
        ({"result": []}, [], []),
        (None, [], []),
    ],
)
def test_every_shape_of_result(structured: Any, texts: list[str], passages: list[Passage]) -> None:
    found = passages_from_tool(structured, texts)
    assert [(passage.id, passage.title, passage.text) for passage in found] == [
        (passage.id, passage.title, passage.text) for passage in passages
    ]


def test_from_settings(mcp_program: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_KEY", "from the environment")
    mcp = {"command": mcp_program, "tool": "find", "query_argument": "question", "environment": ["SEARCH_KEY", "NONE"]}
    engine = build_search_engine(SearchSettings.model_validate({"engine_type": "mcp", "mcp": mcp}))
    assert engine.search_batch(["variable"])[0][0].text == "from the environment"
    engine.close()


def test_settings_without_a_server_and_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SearchError, match=r"set search\.mcp\.command=.* or search\.mcp\.url=URL"):
        build_search_engine(SearchSettings(engine_type="mcp"))
    monkeypatch.setattr("stepsearch.search.mcp_search.find_spec", lambda name: None)
    with pytest.raises(SearchError, match=r"pip install 'stepsearch\[mcp\]'"):
        build_search_engine(SearchSettings(engine_type="mcp"))
