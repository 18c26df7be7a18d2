import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from stepsearch.config import RolloutSettings
from stepsearch.errors import ConfigError
from stepsearch.rollout import RolloutRunner
from stepsearch.search import SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.serving import AgentApp, AgentSettings, agent_app
from stepsearch.types import Passage, Question, StopReason, Trajectory

CHAT = "/v1/chat/completions"
BOOK, AUTHOR = Passage("b", "It is a book.", "The Red Fox", score=2.5), Passage("a", "She wrote it.", score=None)
DOCUMENTS = {"book": [BOOK, AUTHOR]}
ANSWERED = ["<think>which book</think><search>book</search>", "<think>hers</think><answer>Paris</answer>"]
SETTINGS = RolloutSettings(max_turn_tokens=80, max_observation_tokens=100, max_passage_tokens=40)

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


class GatedShelf(SearchEngine):
    """Finds the book once its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        assert self.gate.wait(10)
        return [BOOK]


@pytest.fixture
def runner_of(spelled_tokenizer: Any, scripted_engine: Any, shelf: Any) -> Callable[..., RolloutRunner]:
    def build(scripts: dict[int, list[str]], search: SearchEngine | None = None, **limits: int) -> RolloutRunner:
        guarded = GuardedSearch(search or shelf(DOCUMENTS), retries=0)
        engine = scripted_engine(spelled_tokenizer, scripts)
        sizes = {"max_length": 500, "max_search_steps": 2, "search_top_k": 2, **limits}
        return RolloutRunner(engine, spelled_tokenizer, guarded, SETTINGS, **sizes)

    return build


@pytest.fixture
def serve() -> Serve:
    @asynccontextmanager
    async def client_of(runner: RolloutRunner, **settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
        app = AgentApp(runner, AgentSettings(**{"name": "fox", **settings}))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with app.running(), httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            yield client

    return client_of


def asking(text: str = "Who wrote it?", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def asked(
    serve: Serve, runner: RolloutRunner, body: Any = None, headers: Mapping[str, str] | None = None, **settings: Any
) -> Any:
    async def ask() -> httpx.Response:
        async with serve(runner, **settings) as client:
            # Escaped, as JSON can say half a character, too.
            content = json.dumps(asking() if body is None else body)
            return await client.post(
                CHAT, content=content, headers={"Content-Type": "application/json", **(headers or {})}
            )

    return run(ask())


def test_an_answer_with_what_led_to_it(serve: Serve, runner_of: Any) -> None:
    answer = asked(serve, runner_of({0: ANSWERED})).json()

    assert answer["object"] == "chat.completion"
    assert answer["model"] == "fox"
    (choice,) = answer["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Paris",
        "reasoning_content": "think: which book\nsearch: book\nfound: The Red Fox; She wrote it.\nthink: hers\n",
    }
    assert choice["finish_reason"] == "stop"
    assert answer["stepsearch"] == {
        "stop_reason": "answered",
        "searches": [
            {
                "query": "book",
                "failed": False,
                "passages": [
                    {"id": "b", "title": "The Red Fox", "text": "It is a book.", "score": 2.5},
                    {"id": "a", "title": "", "text": "She wrote it.", "score": None},
                ],
            }
        ],
    }


def test_the_served_episode_is_the_rollouts(serve: Serve, runner_of: Any) -> None:
    question = Question(id="", question="Who wrote it?", answers=())
    (alone,) = runner_of({0: list(ANSWERED)}).run([question], [7])

    body = asking(seed=7, return_trajectory=True, temperature=0.5)
    answer = asked(serve, runner_of({0: list(ANSWERED)}), body).json()

    served = Trajectory.from_json(answer["stepsearch"]["trajectory"])
    assert served == alone
    sampled = sum(alone.response_mask)
    total = len(alone.prompt_ids) + len(alone.response_ids)
    usage = {"prompt_tokens": total - sampled, "completion_tokens": sampled, "total_tokens": total}
    assert answer["usage"] == usage


def test_a_request_says_how_it_is_sampled(
    serve: Serve, spelled_tokenizer: Any, scripted_engine: Any, shelf: Any
) -> None:
    engine = scripted_engine(spelled_tokenizer, {0: list(ANSWERED)})
    search = GuardedSearch(shelf(DOCUMENTS), retries=0)
    sizes = {"max_length": 500, "max_search_steps": 2, "search_top_k": 2}
    runner = RolloutRunner(engine, spelled_tokenizer, search, SETTINGS, **sizes)

    asked(serve, runner, asking(seed=7, temperature=0.5))

    assert [(sampling.seed, sampling.temperature) for sampling in engine.samplings[0]] == [(7, 0.5)] * 2


def test_streamed_parts_say_the_same(serve: Serve, runner_of: Any) -> None:
    whole = asked(serve, runner_of({0: list(ANSWERED)})).json()
    response = asked(serve, runner_of({0: list(ANSWERED)}), asking(stream=True, stream_options={"include_usage": True}))

    assert response.headers["content-type"].startswith("text/event-stream")
    *lines, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert done == "[DONE]"
    *parts, usage = [json.loads(line) for line in lines]
    deltas = [part["choices"][0]["delta"] for part in parts]
    message = whole["choices"][0]["message"]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]
    assert "".join(delta.get("content", "") for delta in deltas) == "Paris"
    assert [part["choices"][0]["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + ["stop"]
    assert {part["id"] for part in parts} == {parts[0]["id"]}
    assert parts[-1]["stepsearch"] == whole["stepsearch"]
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    without = asked(serve, runner_of({0: list(ANSWERED)}), asking(stream=True))
    assert '"usage"' not in without.text


def test_an_episode_without_an_answer_has_no_content(serve: Serve, runner_of: Any, shelf: Any) -> None:
    searches = ["<search>book</search>"] * 3
    answer = asked(serve, runner_of({0: list(searches)})).json()
    assert answer["choices"][0]["message"]["content"] is None
    assert answer["stepsearch"]["stop_reason"] == StopReason.SEARCHES_SPENT
    assert answer["choices"][0]["finish_reason"] == "stop"
    long = shelf({"book": ["word " * 100] * 3})
    full = asked(serve, runner_of({0: searches}, long, max_length=250, max_search_steps=5)).json()
    assert full["stepsearch"]["stop_reason"] == StopReason.CONTEXT_FULL
    assert full["choices"][0]["finish_reason"] == "length"


def test_a_conversation_asks_with_its_last_message(serve: Serve, runner_of: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "A book."},
        {"role": "user", "content": [{"type": "text", "text": "Who wrote"}, {"type": "text", "text": "it?"}]},
    ]
    answer = asked(serve, runner_of({0: ANSWERED}), {"messages": messages, "return_trajectory": True}).json()
    assert answer["stepsearch"]["trajectory"]["question"]["question"] == "Who wrote\nit?"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (asking(model="wolf"), 404, "there is no model 'wolf' here: ask 'fox'"),
        (asking("  "), 400, "the last one of role user has no text"),
        (asking("Who wrote \ud800?"), 400, "the last one of role user is not UTF-8 text"),
        ({"messages": []}, 400, "messages: List should have at least 1 item"),
        ({}, 400, "messages: Field required"),
        (asking(n=2), 400, "n: Input should be 1"),
        (asking(temperature="hot"), 400, "temperature: Input should be a valid number"),
        (asking("why " * 500), 400, "does not fit model.max_length=500"),
        (asking(stream=True, model="wolf"), 404, "there is no model"),
        (asking("x" * 1_100_000), 413, "at most 1048576 bytes"),
    ],
)
def test_what_is_wrong_is_said(serve: Serve, runner_of: Any, body: Any, status: int, words: str) -> None:
    answer = asked(serve, runner_of({}), body)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_what_is_no_json_is_refused(serve: Serve, runner_of: Any) -> None:
    async def ask() -> list[httpx.Response]:
        async with serve(runner_of({})) as client:
            return [
                await client.post(CHAT, content=b"{", headers={"content-type": "application/json"}),
                await client.post(CHAT, content=b"\xff", headers={"content-type": "application/json"}),
                await client.post(CHAT, content=b"{}"),
                await client.get(CHAT),
                await client.get("/v1/nothing"),
            ]

    answers = run(ask())
    broken, _, unnamed, read, _ = answers
    assert [answer.status_code for answer in answers] == [400, 400, 415, 405, 404]
    assert all(answer.json()["error"]["message"] for answer in answers)
    assert read.headers["allow"] == "POST"
    assert (broken.status_code, broken.json()["error"]["message"]) == (400, "the body is not JSON")
    assert "Content-Type" in unnamed.json()["error"]["message"]


def test_the_token_opens_everything_but_health(serve: Serve, runner_of: Any) -> None:
    assert asked(serve, runner_of({}), token="s3cret").status_code == 401
    shown = {"Authorization": "Bearer s3cret"}
    assert asked(serve, runner_of({0: ANSWERED}), headers=shown, token="s3cret").status_code == 200

    async def get() -> list[int]:
        async with serve(runner_of({}), token="s3cret") as client:
            return [(await client.get(path)).status_code for path in ("/healthz", "/v1/models", "/docs")]

    assert run(get()) == [200, 401, 401]
    with pytest.raises(ConfigError, match="printable"):
        AgentSettings("fox", token="\n")


def test_the_model_is_named(serve: Serve, runner_of: Any) -> None:
    async def get() -> Any:
        async with serve(runner_of({})) as client:
            return (await client.get("/v1/models")).json(), (await client.get("/healthz")).json()

    models, health = run(get())
    assert [model["id"] for model in models["data"]] == ["fox"]
    assert health == {"status": "ok", "model": "fox", "open": 0}


def test_questions_are_played_together_and_too_many_are_refused(serve: Serve, runner_of: Any) -> None:
    search = GatedShelf()

    async def ask() -> tuple[list[httpx.Response], httpx.Response]:
        async with serve(runner_of({index: list(ANSWERED) for index in range(3)}, search), max_open=3) as client:
            waiting = [asyncio.create_task(client.post(CHAT, json=asking())) for _ in range(3)]
            while (await client.get("/healthz")).json()["open"] < 3:
                await asyncio.sleep(0.01)
            refused = await client.post(CHAT, json=asking())
            search.gate.set()
            return await asyncio.gather(*waiting), refused

    answers, refused = run(ask())
    assert [answer.json()["choices"][0]["message"]["content"] for answer in answers] == ["Paris"] * 3
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "3 questions are open" in refused.json()["error"]["message"]


def test_an_engine_that_breaks_is_said_to_all_and_to_health(serve: Serve, runner_of: Any) -> None:
    async def ask() -> list[httpx.Response]:
        # No script: the engine fails on the first question.
        async with serve(runner_of({})) as client:
            first = await client.post(CHAT, json=asking())
            return [first, await client.post(CHAT, json=asking()), await client.get("/healthz")]

    first, second, health = run(ask())
    assert (first.status_code, second.status_code, health.status_code) == (500, 500, 503)
    assert "the agent broke" in first.json()["error"]["message"]
    assert health.json()["status"] == "failed"


def test_an_engine_that_breaks_leaves_nobody_waiting(serve: Serve, runner_of: Any) -> None:
    async def ask() -> tuple[list[httpx.Response], Any]:
        # The first breaks the engine before the others are begun with.
        async with serve(runner_of({})) as client:
            answers = await asyncio.gather(*(client.post(CHAT, json=asking()) for _ in range(8)))
            return answers, (await client.get("/healthz")).json()

    answers, health = run(ask())
    assert [answer.status_code for answer in answers] == [500] * 8
    assert health["open"] == 0


def test_who_leaves_a_stream_is_not_played_for(runner_of: Any) -> None:
    search = GatedShelf()
    app = AgentApp(runner_of({0: list(ANSWERED), 1: list(ANSWERED)}, search), AgentSettings("fox"))
    body = json.dumps(asking(stream=True)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "headers": headers}
    requests, sent = [{"type": "http.request", "body": body}], asyncio.Event()

    async def receive() -> Any:
        if requests:
            return requests.pop()
        await sent.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            sent.set()

    async def leave() -> Any:
        async with app.running(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fox") as other:
            await app(scope, receive, send)
            # The book is not found yet, so that the episode cannot have ended by itself.
            health = (await other.get("/healthz")).json()
            search.gate.set()
            return health, (await other.post(CHAT, json=asking())).json()

    health, answer = run(leave())
    assert health["open"] == 0
    # What is found for those who have left is no trouble.
    assert answer["choices"][0]["message"]["content"] == "Paris"


def test_a_stream_that_breaks_ends_with_the_reason(serve: Serve, runner_of: Any) -> None:
    # The script ends after the search, so that the engine fails within the answer.
    response = asked(serve, runner_of({0: ANSWERED[:1]}), asking(stream=True))
    *_, problem, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert "the agent broke" in json.loads(problem)["error"]["message"]
    assert done == "[DONE]"


def test_a_body_that_does_not_come_is_not_waited_for(
    serve: Serve, runner_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_app, "_PART_SECONDS", 0.05)
    never = asyncio.Event()

    async def slowly() -> AsyncGenerator[bytes]:
        yield b'{"messages": '
        await never.wait()

    async def ask() -> httpx.Response:
        headers = {"Content-Type": "application/json", "Content-Length": "100"}
        async with serve(runner_of({})) as client:
            return await client.post(CHAT, content=slowly(), headers=headers)

    assert run(ask()).status_code == 400
