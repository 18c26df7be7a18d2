"""A two-hop question, its corpus, and an endpoint whose model annotates by rules."""

from collections.abc import Callable, Generator

import annotating_model
import pytest
from chat_server import ChatServer

from stepsearch.chat_endpoint import Budget, ChatEndpoint, EndpointSettings, ReplyCache
from stepsearch.search import GuardedSearch
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.types import Passage, Question, SubQuestion

UP = Passage("p-up", "Up was written by Ann Lee.", "Up")
ANN = Passage("p-ann", "Ann Lee was born in Rome.", "Ann Lee")
OTHER = Passage("p-other", "Something entirely else is here.", "Elsewhere")


@pytest.fixture
def question() -> Question:
    return Question(
        id="q",
        question="Where was the writer of Up born?",
        answers=("Rome", "Roma"),
        sub_questions=(
            SubQuestion("Up >> screenwriter", "Ann Lee", ("Up screenwriter",), "p-up", "Up", "screenwriter"),
            SubQuestion("Ann Lee >> place of birth", "Rome", ("Ann Lee birthplace",), "p-ann"),
        ),
        golden_passages=(UP, ANN),
        hops=2,
    )


@pytest.fixture
def engines() -> dict[str, GuardedSearch]:
    return {"bm25": GuardedSearch(BM25SearchEngine.from_passages([UP, ANN, OTHER]))}


@pytest.fixture
def model() -> Generator[ChatServer]:
    server = ChatServer(annotating_model.answer)
    yield server
    server.stop()


@pytest.fixture
def open_endpoint(model: ChatServer) -> Generator[Callable[..., ChatEndpoint]]:
    opened: list[ChatEndpoint] = []

    def build(budget: Budget | None = None, cache: ReplyCache | None = None) -> ChatEndpoint:
        settings = EndpointSettings("test", model.url, concurrency=1, retries=1, backoff_seconds=0.01)
        opened.append(ChatEndpoint(settings, cache, budget))
        return opened[-1]

    yield build
    for endpoint in opened:
        endpoint.close()
