"""What every search engine must do."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from stepsearch.config import DenseSearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import SearchError
from stepsearch.search import (
    BM25SearchEngine,
    CachedSearchEngine,
    DenseSearchEngine,
    GuardedSearch,
    HybridSearchEngine,
    MCPSearchEngine,
    MCPServer,
    MockSearchEngine,
    RemoteSearchEngine,
    SearchEngine,
    WikiSearchEngine,
)
from stepsearch.types import Passage

TEXTS = ["The red fox lives in the wood.", "The brown hen lives on the farm.", "A red hen.", "巴黎 est né à Paris."]


class CustomSearchEngine(SearchEngine):
    """What a user writes: one method, returning strings."""

    def __init__(self) -> None:
        self.documents = list(TEXTS)

    def search(self, query: str, top_k: int = 3) -> list[str]:
        words = set(query.lower().split())
        return [text for text in self.documents if words & set(text.lower().strip(".").split())][:top_k]

    def add_documents(self, documents: list[str]) -> None:
        self.documents += documents


def in_memory(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    return BM25SearchEngine.from_passages(map(Passage.from_text, TEXTS))


def on_disk(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    KnowledgeBase.create(folder / "kb", map(Passage.from_text, TEXTS))
    return BM25SearchEngine.build(folder / "kb")


def dense(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    """With a score below which nothing counts: words that the tiny encoder does not know score 0."""
    encoder = request.getfixturevalue("word_encoder")(" ".join([*TEXTS, "purple owl"]).replace(".", ""))
    KnowledgeBase.create(folder / "kb", map(Passage.from_text, TEXTS))
    return DenseSearchEngine.build(folder / "kb", DenseSearchSettings(encoder=str(encoder), min_score=0.1))


def mock(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    return MockSearchEngine({"red": [TEXTS[2], TEXTS[0]], "hen": [TEXTS[2], TEXTS[1]], "né": [TEXTS[3]]})


def custom(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    return CustomSearchEngine()


def remote(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    corpus = BM25SearchEngine.from_passages(map(Passage.from_text, TEXTS))

    def retrieve(posted: Any) -> tuple[int, dict[str, str], bytes]:
        asked = json.loads(posted.body)
        result = [
            [{"document": {"id": passage.id, "contents": passage.text}, "score": passage.score} for passage in found]
            for found in corpus.search_batch(asked["queries"], asked["topk"])
        ]
        return 200, {}, json.dumps({"result": result}).encode()

    return RemoteSearchEngine(f"{request.getfixturevalue('loopback')(retrieve).url}/retrieve")


def wiki(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    corpus = BM25SearchEngine.from_passages(map(Passage.from_text, TEXTS))

    def api(got: Any) -> tuple[int, dict[str, str], bytes]:
        asked = dict(parse_qsl(urlsplit(got.path).query))
        found = corpus.search(asked["gsrsearch"], int(asked["gsrlimit"]))
        pages = [
            {"pageid": rank, "ns": 0, "title": f"Page {rank}", "index": rank, "extract": passage.text}
            for rank, passage in enumerate(found, start=1)
        ]
        answer = {"batchcomplete": True, "query": {"pages": pages[::-1]}} if pages else {"batchcomplete": True}
        return 200, {}, json.dumps(answer).encode()

    return WikiSearchEngine(url=f"{request.getfixturevalue('loopback')(api).url}/w/api.php", requests_per_second=1000)


def mcp(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    return MCPSearchEngine(MCPServer(url=request.getfixturevalue("mcp_url")), top_k_argument="k")


def cached(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    return CachedSearchEngine(in_memory(folder, request), folder / "cache", "these texts")


def hybrid(folder: Path, request: pytest.FixtureRequest) -> SearchEngine:
    return HybridSearchEngine([in_memory(folder, request), custom(folder, request), remote(folder, request)])


@pytest.fixture(params=[in_memory, on_disk, dense, mock, custom, remote, wiki, mcp, cached, hybrid])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SearchEngine]:
    build: Callable[[Path, pytest.FixtureRequest], SearchEngine] = request.param
    engine = build(tmp_path, request)
    yield engine
    engine.close()


def test_a_batch_gives_what_each_query_gives(engine: SearchEngine) -> None:
    queries = ["red", "hen", "nothing at all like this", "", "red"]
    batch = engine.search_batch(queries, 3)
    assert len(batch) == len(queries)
    assert batch == [engine.search_batch([query], 3)[0] for query in queries]
    assert engine.search_batch([], 3) == []


def test_results_are_passages_with_content_and_identity(engine: SearchEngine) -> None:
    (passages,) = engine.search_batch(["red"], 3)
    assert {passage.text for passage in passages} == {TEXTS[0], TEXTS[2]}
    for passage in passages:
        assert passage.id == Passage.from_text(passage.text, passage.title).id


def test_at_most_top_k_come_back_and_fewer_when_there_are_no_more(engine: SearchEngine) -> None:
    assert len(engine.search_batch(["red"], 1)[0]) == 1
    assert len(engine.search_batch(["red"], 100)[0]) == 2
    assert engine.search_batch(["red"], 1)[0] == engine.search_batch(["red"], 2)[0][:1]


@pytest.mark.parametrize("query", ["", "   ", "?!", "zzz unknown", 'quotes " and x:y AND (c', "\x00", "né" * 5000])
def test_odd_queries_find_nothing_and_raise_nothing(engine: SearchEngine, query: str) -> None:
    assert engine.search_batch([query], 3) == [[]]


def test_text_in_other_languages_is_found_whole(engine: SearchEngine) -> None:
    (passages,) = engine.search_batch(["né"], 3)
    assert [passage.text for passage in passages] == [TEXTS[3]]


def test_asking_again_gives_the_same(engine: SearchEngine) -> None:
    assert engine.search_batch(["red", "hen"], 3) == engine.search_batch(["red", "hen"], 3)


def test_added_documents_are_found_or_refused_clearly(engine: SearchEngine) -> None:
    try:
        engine.add_documents(["A purple owl."])
    except SearchError as error:
        assert type(engine).__name__ in str(error)  # noqa: PT017 - either way is right
    else:
        assert [passage.text for passage in engine.search_batch(["purple"], 3)[0]] == ["A purple owl."]


def test_the_guard_passes_results_through(engine: SearchEngine) -> None:
    guarded = GuardedSearch(engine)
    for outcome, passages in zip(
        guarded.search_batch(["red", "", "red"], 2), engine.search_batch(["red", "", "red"], 2), strict=True
    ):
        assert not outcome.failed
        assert list(outcome.passages) == passages


def test_closing_twice_is_fine(engine: SearchEngine) -> None:
    engine.close()
    engine.close()
