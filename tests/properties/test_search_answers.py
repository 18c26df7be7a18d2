"""Whatever JSON a server answers with, an engine returns passages or says what is wrong with it."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepsearch.errors import SearchError
from stepsearch.search.mcp_search import passages_from_tool
from stepsearch.search.patient_http import HttpReply, HttpRequest, TryLaterError
from stepsearch.search.remote_search import RemoteSearchEngine
from stepsearch.search.wiki_search import WikiSearchEngine, plain_words
from stepsearch.types import Passage

NAMES = (
    "result document documents id contents title text content score query pages pageid index extract error code "
    "continue batchcomplete anything"
)
KEYS = st.sampled_from(NAMES.split())
# Damaged JSON holds halves of surrogate pairs.
TEXTS = st.text(st.characters(codec=None, categories=None), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXTS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


class Answering:
    """Stands where a client of HTTP does, and has the answer already."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def ask(self, request: HttpRequest, read: Callable[[HttpReply], Any]) -> Any:
        return read(HttpReply(200, {}, json.dumps(self.answer).encode()))


def refused_or_passages(search: Callable[[], list[Passage]]) -> None:
    found: list[Passage] = []
    try:
        found = search()
    except (SearchError, TryLaterError) as error:
        assert str(error).isprintable()  # noqa: PT017 - passages are right, too
    for passage in found:
        for text in (passage.id, passage.title, passage.text):
            text.encode()
        assert passage.score is None or math.isfinite(passage.score)


@pytest.fixture(scope="module")
def remote() -> RemoteSearchEngine:
    engine = RemoteSearchEngine("http://127.0.0.1:9/retrieve")
    engine.close()
    return engine


@pytest.fixture(scope="module")
def wiki() -> WikiSearchEngine:
    engine = WikiSearchEngine(url="http://127.0.0.1:9/w/api.php")
    engine.close()
    return engine


@settings(max_examples=200, deadline=None)
@given(answer=JSON | st.builds(lambda item: {"result": [[item]]}, JSON))
def test_remote(remote: RemoteSearchEngine, answer: object) -> None:
    remote._client = Answering(answer)  # type: ignore[assignment]
    refused_or_passages(lambda: remote.search("q", 3))


@settings(max_examples=200, deadline=None)
@given(answer=JSON | st.builds(lambda page: {"query": {"pages": [page, page]}}, JSON))
def test_wiki(wiki: WikiSearchEngine, answer: object) -> None:
    wiki._client = Answering(answer)  # type: ignore[assignment]
    refused_or_passages(lambda: wiki.search("q", 3))


@settings(max_examples=200, deadline=None)
@given(structured=JSON, texts=st.lists(TEXTS | JSON.map(json.dumps), max_size=3))
def test_mcp(structured: object, texts: list[str]) -> None:
    refused_or_passages(lambda: passages_from_tool(structured, texts))


@given(query=st.text(st.characters(codec=None, categories=None), max_size=400))
def test_a_query_for_the_wiki_is_short_and_can_be_sent(query: str) -> None:
    words = plain_words(query)
    assert len(words) <= 300
    words.encode()
    assert not set(words) & set('"~*?!\\:()[]{}|^<>=+#\x00\n')
    assert plain_words(words) == words
