"""Vectors from a real HTTP server that also fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepsearch.config import DenseSearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import SearchError, SearchUnavailableError
from stepsearch.search import DenseSearchEngine, Patience
from stepsearch.search.embedding_endpoint import EndpointEncoder
from stepsearch.types import Passage

pytest.importorskip("openai")

PLAIN = {"query_prefix": "q: ", "passage_prefix": "p: ", "normalize": False}
Reply = tuple[int, dict[str, str], bytes]


def vectors_of(asked: Any) -> Reply:
    """Answer with length and number of a's of each text, last text first."""
    texts = json.loads(asked.body)["input"]
    data = [{"object": "embedding", "index": i, "embedding": [len(t), t.count("a")]} for i, t in enumerate(texts)]
    reply = {"object": "list", "data": data[::-1], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    return 200, {"content-type": "application/json"}, json.dumps(reply).encode()


@pytest.fixture
def encoder(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[EndpointEncoder, Any]]:
    monkeypatch.setenv("OPENAI_API_KEY", "key")

    def build(*answers: Callable[[Any], Reply], facts: Any = PLAIN) -> tuple[EndpointEncoder, Any]:
        left = list(answers)
        server = loopback(lambda asked: (left.pop(0) if left else vectors_of)(asked))
        patience = Patience(timeout_seconds=5, retries=2, backoff_seconds=0.001)
        return EndpointEncoder(f"{server.url}/v1", "m", facts, 2, patience), server

    return build


def failing(status: int, body: str = "{}", **headers: str) -> Callable[[Any], Reply]:
    return lambda asked: (status, {"content-type": "application/json", **headers}, body.encode())


def test_texts_are_sent_in_batches_with_prefixes_and_come_back_in_order(encoder: Any) -> None:
    made, server = encoder()
    assert made.encode_queries(["aaa", "a", "aa"]).tolist() == [[6, 3], [4, 1], [5, 2]]
    assert made.encode_passages([Passage("1", "b", "aa")]).tolist() == [[7, 2]]
    bodies = [json.loads(asked.body) for asked in server.asked]
    assert [body["input"] for body in bodies] == [["q: aaa", "q: aa"], ["q: a"], ["p: aa\nb"]]
    assert bodies[0]["model"] == "m"
    made.close()


def test_vectors_are_made_equally_long(encoder: Any) -> None:
    made, _ = encoder(facts=PLAIN | {"normalize": True, "query_prefix": ""})
    assert made.encode_queries(["abc", ""]) == pytest.approx(np.array([[3 / 10**0.5, 1 / 10**0.5], [0, 0]]))
    made.close()


def test_failures_that_pass_are_waited_out(encoder: Any) -> None:
    cut = failing(200, json.dumps({"object": "list", "data": [], "model": "m"}))
    made, server = encoder(failing(503), cut)
    assert made.encode_queries(["a"]).tolist() == [[4, 1]]
    assert len(server.asked) == 3
    made.close()


@pytest.mark.parametrize(
    ("status", "kind", "requests", "problem"),
    [
        (401, SearchUnavailableError, 1, "refuses model m"),
        (400, SearchError, 1, "refuses the request"),
        (500, SearchUnavailableError, 3, "failed after 3 tries"),
    ],
)
def test_failures_that_do_not(encoder: Any, status: int, kind: Any, requests: int, problem: str) -> None:
    made, server = encoder(*[failing(status)] * 3)
    with pytest.raises(kind, match=problem):
        made.encode_queries(["a"])
    assert len(server.asked) == requests
    made.close()


def test_an_index_by_an_endpoint_is_opened_only_where_its_address_is_said_again(
    loopback: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    KnowledgeBase.create(tmp_path / "kb", map(Passage.from_text, ["aaaa", "b", "ab"]))
    url = f"{loopback(vectors_of).url}/v1"
    engine = DenseSearchEngine.build(tmp_path / "kb", DenseSearchSettings(encoder="m", url=url))
    assert engine.guards_itself
    found = engine.search("aaa", 1)
    engine.close()
    assert found[0].text == "aaaa"
    with pytest.raises(SearchError, match=r"made by m behind an endpoint: name it with search\.dense\.url=URL"):
        DenseSearchEngine.open(tmp_path / "kb", DenseSearchSettings())
    opened = DenseSearchEngine.open(tmp_path / "kb", DenseSearchSettings(url=url))
    assert opened.search("aaa", 1) == found
    opened.close()


def test_what_an_endpoint_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"search\.dense\.max_tokens is the endpoint's own business"):
        EndpointEncoder.load("m", DenseSearchSettings(url="http://x/v1", max_tokens=9), Patience())
    with pytest.raises(SearchError, match=r"search\.dense\.url: .* must start with http"):
        EndpointEncoder("nowhere", "m", PLAIN)
