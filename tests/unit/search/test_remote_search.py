"""The client of /retrieve against real servers that behave and misbehave."""

import email.utils
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from stepsearch.errors import SearchError, SearchUnavailableError
from stepsearch.search import GuardedSearch, SearchOutcome
from stepsearch.search.patient_http import Patience
from stepsearch.search.remote_search import RemoteSearchEngine
from stepsearch.types import Passage

QUICK = Patience(timeout_seconds=0.5, retries=2, backoff_seconds=0.01, circuit_failures=100, circuit_pause_seconds=0.2)
PARIS = {"document": {"id": "7", "contents": '"Paris"\nParis is the capital\nof France.'}, "score": 2.5}
PARIS_PASSAGE = Passage("7", "Paris is the capital\nof France.", "Paris", 2.5)


def reply(value: Any, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, {name.replace("_", "-"): text for name, text in headers.items()}, json.dumps(value).encode()


def retrieve(request: Any) -> tuple[int, dict[str, str], bytes]:
    """Answer every query with Paris."""
    return reply({"result": [[PARIS] for _ in json.loads(request.body)["queries"]]})


class Script:
    """Answers with what it is given, one after the other, then as a healthy server does."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self, request: Any) -> Any:
        answer = self.answers.pop(0) if self.answers else retrieve(request)
        return answer(request) if callable(answer) else answer


@pytest.fixture
def served(loopback: Any) -> Any:
    """Starts a server and an engine that asks it."""
    engines: list[RemoteSearchEngine] = []

    def start(answer: Callable[[Any], Any], patience: Patience = QUICK, **options: Any) -> Any:
        server = loopback(answer)
        engines.append(RemoteSearchEngine(f"{server.url}/retrieve", patience, **options))
        return engines[-1], server

    yield start
    for engine in engines:
        engine.close()


def test_what_is_sent_and_what_comes_back(served: Any) -> None:
    engine, server = served(retrieve)
    assert engine.search("capital of France", 4) == [PARIS_PASSAGE]
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/retrieve")
    assert json.loads(asked.body) == {"queries": ["capital of France"], "topk": 4, "return_scores": True}
    assert "Authorization" not in {name.title() for name in asked.headers}


@pytest.mark.parametrize(
    ("document", "passage"),
    [
        (PARIS, PARIS_PASSAGE),
        (PARIS["document"], Passage("7", "Paris is the capital\nof France.", "Paris")),
        (
            {"document": {"id": 7, "title": "Paris", "text": "A city."}, "score": 1},
            Passage("7", "A city.", "Paris", 1.0),
        ),
        ({"id": "x", "title": "Paris", "content": "A city."}, Passage("x", "A city.", "Paris")),
        ({"id": "x", "title": "Rome", "contents": '"Paris"\nA city.'}, Passage("x", "A city.", "Rome")),
        ({"id": "x", "contents": "A city\nin France"}, Passage("x", "A city\nin France")),
        ({"id": "x", "contents": '"A "great" city"\nParis'}, Passage("x", "Paris", 'A "great" city')),
        ({"contents": "A city."}, Passage.from_text("A city.")),
        ({"document": "A city.", "score": None}, Passage.from_text("A city.")),
        ("A city.", Passage.from_text("A city.")),
    ],
)
def test_every_shape_of_document(served: Any, document: Any, passage: Passage) -> None:
    engine, _ = served(lambda request: reply({"result": [[document]]}))
    assert engine.search("q") == [passage]


def test_a_batch_is_one_request_without_repeats_and_blanks(served: Any) -> None:
    engine, server = served(retrieve)
    assert engine.search_batch(["a", "", "b", "a", "  "], 3) == [
        [PARIS_PASSAGE],
        [],
        [PARIS_PASSAGE],
        [PARIS_PASSAGE],
        [],
    ]
    assert [json.loads(asked.body)["queries"] for asked in server.asked] == [["a", "b"]]
    assert engine.search_batch(["", " "]) == [[], []]
    assert len(server.asked) == 1


def test_large_batches_are_split(served: Any) -> None:
    engine, server = served(retrieve, batch_size=2)
    engine.search_batch(["a", "b", "c"])
    assert [json.loads(asked.body)["queries"] for asked in server.asked] == [["a", "b"], ["c"]]


def test_half_a_surrogate_pair_travels(served: Any) -> None:
    engine, server = served(retrieve)
    engine.search("\ud83d café")
    assert json.loads(server.asked[0].body)["queries"] == ["\ud83d café"]


def test_the_token_is_sent(served: Any) -> None:
    engine, server = served(retrieve, token="s3cret")
    engine.search("q")
    assert server.asked[0].headers["authorization"] == "Bearer s3cret"


def test_connections_are_used_again(served: Any) -> None:
    ports: set[int] = set()
    engine, server = served(retrieve)
    for _ in range(5):
        engine.search("q")
        ports |= {connection.getpeername()[1] for connection in server._connections}
    assert len(ports) == 1


@pytest.mark.parametrize(
    "fault",
    [
        reply({"detail": "busy"}, 429),
        reply({"detail": "busy"}, 503),
        (500, {}, b"Internal Server Error"),
        (502, {}, b"<html>Bad gateway</html>"),
        (200, {}, b"<html>a proxy's page</html>"),
        (200, {"content-length": "1000"}, b'{"result": '),
        None,
    ],
)
def test_a_temporary_fault_is_tried_again(served: Any, fault: Any) -> None:
    engine, server = served(Script(fault, fault))
    assert engine.search("q") == [PARIS_PASSAGE]
    assert len(server.asked) == 3


def test_a_slow_answer_is_given_up_and_tried_again(served: Any) -> None:
    engine, server = served(Script(lambda request: time.sleep(0.8)))
    assert engine.search("q") == [PARIS_PASSAGE]
    assert len(server.asked) == 2


def test_the_servers_retry_after_is_waited_for(served: Any) -> None:
    pauses: list[float] = []
    engine, _ = served(
        Script(reply({}, 503, retry_after="3"), reply({}, 429, retry_after="0")), patience=Patience(retries=2)
    )
    engine._client._sleep = pauses.append
    assert engine.search("q") == [PARIS_PASSAGE]
    first, second = pauses
    assert 3.25 <= first <= 3.5  # 0.5 s of back-off, half to whole
    assert 0.5 <= second <= 1


def test_retry_after_may_be_a_date(served: Any) -> None:
    pauses: list[float] = []
    date = email.utils.formatdate(time.time() + 20, usegmt=True)
    engine, _ = served(Script(reply({}, 503, retry_after=date)), patience=Patience())
    engine._client._sleep = pauses.append
    engine.search("q")
    assert 18 < pauses[0] < 21


def test_a_retry_after_longer_than_a_try_is_not_waited_for_and_nothing_is_sent_before(served: Any) -> None:
    engine, server = served(Script(reply({}, 429, retry_after="60")))
    for reason in ("HTTP 429", "left alone for another (59|60)"):
        with pytest.raises(SearchUnavailableError, match=reason):
            engine.search("q")
    assert len(server.asked) == 1


def test_what_is_wrong_with_the_request_is_not_tried_again(served: Any) -> None:
    engine, server = served(Script(reply({"detail": "query too long"}, 422)))
    with pytest.raises(SearchError, match=r"refuses the request: HTTP 422.*query too long") as caught:
        engine.search("q")
    assert not isinstance(caught.value, SearchUnavailableError)
    assert len(server.asked) == 1


def test_what_a_server_says_is_shown_as_one_harmless_line(served: Any) -> None:
    engine, _ = served(lambda request: (422, {}, b"line one\r\nline\ttwo \x1b[2J\x07 \xff" + b"x" * 5000))
    with pytest.raises(SearchError) as caught:
        engine.search("q")
    message = str(caught.value)
    assert "HTTP 422 (line one line two [2J " in message
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize("status", [401, 403, 404, 307])
def test_what_no_query_would_mend_makes_the_engine_unavailable(served: Any, status: int) -> None:
    engine, server = served(lambda request: reply({}, status, location="http://else.where/"))
    with pytest.raises(SearchUnavailableError, match=f"HTTP {status}.*points to http://else.where/"):
        engine.search("q")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"result": []}, "0 results for 1 queries"),
        ({"results": [[PARIS]]}, "no results for 1 queries"),
        ([[PARIS]], "no results"),
        ({"result": [PARIS]}, "a list of documents, not a dict"),
        ({"result": [[{"document": {"id": "1"}}]]}, "no contents, text or content; its keys are: id"),
        ({"result": [[3]]}, "not a int"),
    ],
)
def test_an_answer_of_another_shape_is_refused(served: Any, answer: Any, problem: str) -> None:
    engine, _ = served(lambda request: reply(answer))
    with pytest.raises(SearchError, match=problem):
        engine.search("q")


def test_no_server_at_all(loopback: Any) -> None:
    server = loopback(retrieve)
    server.stop()
    engine = RemoteSearchEngine(f"{server.url}/retrieve", QUICK)
    with pytest.raises(SearchUnavailableError, match="failed after 3 tries"):
        engine.search("q")
    with pytest.raises(SearchError, match=r"search\.remote\.url=URL.*search\.engine_type=bm25"):
        engine.check()
    engine.close()


@pytest.mark.parametrize("address", ["localhost:8000/retrieve", "not an address", "http://"])
def test_an_address_that_is_none(address: str) -> None:
    engine = RemoteSearchEngine(address, QUICK)
    with pytest.raises(SearchUnavailableError, match="no address that can be asked"):
        engine.search("q")
    engine.close()


def test_a_server_that_stays_down_is_left_alone_and_asked_again_after_the_pause(served: Any) -> None:
    patience = Patience(timeout_seconds=0.5, retries=0, circuit_failures=2, circuit_pause_seconds=0.2)
    engine, server = served(Script(*[reply({}, 503)] * 3), patience)

    def ask() -> str:
        try:
            return engine.search("q")[0].title
        except SearchUnavailableError as error:
            return "left alone" if "left alone" in str(error) else "failed"

    assert [ask() for _ in range(4)] == ["failed", "failed", "left alone", "left alone"]
    time.sleep(0.25)
    assert [ask(), ask()] == ["failed", "left alone"]  # the probe failed
    time.sleep(0.25)
    assert [ask(), ask()] == ["Paris", "Paris"]
    assert len(server.asked) == 5


def test_the_guard_adds_no_tries_to_the_engines_own(served: Any) -> None:
    engine, server = served(lambda request: reply({}, 503))
    assert GuardedSearch(engine, retries=5).search_batch(["a", "b"]) == [SearchOutcome((), failed=True)] * 2
    assert len(server.asked) == 3


def test_a_query_that_breaks_the_server_fails_alone(served: Any) -> None:
    def poisoned(request: Any) -> Any:
        return (500, {}, b"Internal Server Error") if "x" in json.loads(request.body)["queries"] else retrieve(request)

    engine, _ = served(poisoned)
    found = SearchOutcome((PARIS_PASSAGE,))
    assert GuardedSearch(engine).search_batch(["a", "x", "b"]) == [found, SearchOutcome((), failed=True), found]


def test_a_server_that_drips_is_given_up_in_time() -> None:
    import socket

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            for _ in range(20):
                time.sleep(0.1)
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        patience = Patience(timeout_seconds=0.3, retries=0)
        engine = RemoteSearchEngine(f"http://127.0.0.1:{listener.getsockname()[1]}/", patience)
        started = time.perf_counter()
        with pytest.raises(SearchUnavailableError, match=r"no whole answer within 0\.3 s"):
            engine.search("q")
        assert time.perf_counter() - started < 1
        engine.close()
        thread.join()
