import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest

from stepsearch.search import SearchEngine
from stepsearch.types import Passage

ONE = {"queries": ["q"], "topk": 1}


def answers(serve: Any, engine: Any, *bodies: Any, **settings: Any) -> list[httpx.Response]:
    """Return what the server answers to requests one after the other."""

    async def ask() -> list[httpx.Response]:
        async with serve(engine, **settings) as client:
            return [await client.post("/retrieve", json=body) for body in bodies]

    return asyncio.run(ask())


def test_an_answer(serve: Any, engine: Any) -> None:
    scored, plain = answers(
        serve,
        engine,
        {"queries": ["a", "b"], "topk": 1, "return_scores": True},
        {"queries": ["a"], "topk": None, "return_scores": False},
        top_k=2,
    )
    document = {"id": "a/1", "contents": '"a"\nText 1.'}
    assert scored.headers["content-type"] == "application/json"
    assert scored.json()["result"][0] == [{"document": document, "score": 1.0}]
    assert [len(found) for found in scored.json()["result"]] == [1, 1]
    assert plain.json() == {"result": [[document, {"id": "a/2", "contents": '"a"\nText 2.'}]]}


def test_concurrent_requests_share_a_batch(serve: Any, engine: Any) -> None:
    async def ask() -> list[int]:
        async with serve(engine, max_batch=40, batch_milliseconds=1000) as client:
            bodies = [{"queries": [f"q{index}"], "topk": 1} for index in range(40)]
            return [
                one.status_code for one in await asyncio.gather(*(client.post("/retrieve", json=b) for b in bodies))
            ]

    assert asyncio.run(ask()) == [200] * 40
    assert len(engine.calls) == 1


def test_a_broken_engine_is_a_bad_gateway(serve: Any, engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    broken, fine = answers(serve, engine, {"queries": ["good", "break"]}, ONE)
    assert broken.status_code == 502
    assert broken.json()["detail"].startswith(
        "the search engine gave no answer to 1 of 2 queries, the first being 'bre"
    )
    assert "secret detail" not in broken.text
    assert "secret detail" in caplog.text
    assert fine.status_code == 200


def test_an_engine_that_hangs_is_a_bad_gateway_and_is_left_behind(serve: Any, engine: Any) -> None:
    async def ask() -> list[int]:
        async with serve(engine, timeout_seconds=0.1) as client:
            engine.gate.clear()
            hanging = await client.post("/retrieve", json=ONE)
            engine.gate.set()
            return [hanging.status_code, (await client.post("/retrieve", json=ONE)).status_code]

    assert asyncio.run(ask()) == [502, 200]


def test_a_passage_that_has_no_json_is_a_bad_gateway(serve: Any) -> None:
    class Odd(SearchEngine):
        def search(self, query: str, top_k: int = 3) -> list[Passage]:
            return [Passage("1", "x", score="high")]  # type: ignore[arg-type]

    (answer,) = answers(serve, Odd(), {"queries": ["q"], "return_scores": True})
    assert answer.status_code == 502
    assert answer.json() == {"detail": "the search engine returned a passage that cannot be written as JSON"}


def test_too_many_waiting_queries_are_refused_for_now(serve: Any, engine: Any, until: Any) -> None:
    async def ask() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        async with serve(engine, max_waiting=2, max_queries=2) as client:
            engine.gate.clear()
            accepted = asyncio.create_task(client.post("/retrieve", json={"queries": ["a", "b"]}))
            await until(lambda: len(engine.calls) == 1)
            refused = await client.post("/retrieve", json=ONE)
            engine.gate.set()
            return await accepted, refused, await client.post("/retrieve", json=ONE)

    accepted, refused, later = asyncio.run(ask())
    assert [accepted.status_code, refused.status_code, later.status_code] == [200, 503, 200]
    assert refused.headers["retry-after"] == "1"
    assert refused.json() == {"detail": "the server is overloaded (2 queries wait already): try again later"}


def test_too_many_requests_are_refused_for_now(serve: Any, engine: Any, until: Any) -> None:
    async def ask() -> list[int]:
        async with serve(engine, max_requests=3) as client:
            engine.gate.clear()
            open_requests = [asyncio.create_task(client.post("/retrieve", json=ONE)) for _ in range(8)]
            await until(lambda: sum(task.done() for task in open_requests) == 5)
            engine.gate.set()
            return sorted([answer.status_code for answer in await asyncio.gather(*open_requests)])

    assert asyncio.run(ask()) == [200] * 3 + [503] * 5


async def parts(*texts: bytes, pause: float = 0.0) -> AsyncGenerator[bytes]:
    for text in texts:
        yield text
        await asyncio.sleep(pause)


@pytest.mark.parametrize("content", [b"x" * 101, lambda: parts(b"x" * 60, b"x" * 60)])
def test_a_body_that_is_too_large_is_not_read(
    serve: Any, engine: Any, content: bytes | Callable[[], AsyncGenerator[bytes]]
) -> None:
    async def ask() -> httpx.Response:
        async with serve(engine, max_request_bytes=100) as client:
            return await client.post("/retrieve", content=content if isinstance(content, bytes) else content())

    answer = asyncio.run(ask())
    assert answer.status_code == 413
    assert answer.json() == {"detail": "a request may have at most 100 bytes"}


def raw_scope(**changes: Any) -> dict[str, Any]:
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": "/retrieve", "raw_path": b"/retrieve", "query_string": b"", "root_path": "", "headers": []}
    return {**scope, "client": None, "server": ("server", 80), **changes}


async def raw_answer(app: Any, scope: dict[str, Any], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what an application sends to a client that sends these messages and then no more."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_a_body_that_does_not_arrive_is_given_up(app_over: Any, engine: Any) -> None:
    async def ask() -> list[dict[str, Any]]:
        app = app_over(engine, body_seconds=0.05)
        async with app.running():
            part = {"type": "http.request", "body": b'{"queries"', "more_body": True}
            return await raw_answer(app, raw_scope(), [part])

    start, body = asyncio.run(ask())
    assert start["status"] == 408
    assert b"did not arrive within 0.05 seconds" in body["body"]


def test_all_bodies_together_are_bounded(app_over: Any, engine: Any) -> None:
    async def ask() -> list[dict[str, Any]]:
        app = app_over(engine, max_request_bytes=100, body_seconds=5)
        async with app.running():
            half = {"type": "http.request", "body": b" " * 90, "more_body": True}
            open_requests = [asyncio.create_task(raw_answer(app, raw_scope(), [half])) for _ in range(8)]
            await asyncio.sleep(0)
            refused = await raw_answer(app, raw_scope(), [half])
            for task in open_requests:
                task.cancel()
            await asyncio.gather(*open_requests, return_exceptions=True)
            whole = {"type": "http.request", "body": json.dumps(ONE).encode()}
            return [*refused, *await raw_answer(app, raw_scope(), [whole])]

    refused, _, accepted, _ = asyncio.run(ask())
    assert refused["status"] == 503
    assert (b"retry-after", b"1") in refused["headers"]
    assert accepted["status"] == 200


def test_a_client_that_leaves_is_sent_nothing(app_over: Any, engine: Any) -> None:
    async def ask() -> list[dict[str, Any]]:
        app = app_over(engine)
        async with app.running():
            part = {"type": "http.request", "body": b'{"queries"', "more_body": True}
            return await raw_answer(app, raw_scope(), [part, {"type": "http.disconnect"}])

    assert asyncio.run(ask()) == []


def test_other_methods_are_refused(serve: Any, engine: Any) -> None:
    async def ask() -> list[httpx.Response]:
        async with serve(engine) as client:
            return [await client.request(method, "/retrieve") for method in ("GET", "PUT", "OPTIONS")]

    for answer in asyncio.run(ask()):
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"


MALFORMED = 5_000


def malformed_bodies(draw: random.Random) -> bytes:
    """Return a request that is broken in some way, or by luck is not."""
    valid = {"queries": ["who wrote it", "where"], "topk": 3, "return_scores": True}
    odd = [None, True, -1, 0, 10**30, 1.5, "", "x" * 200, [], [[]], {}, {"a": 1}, ["a", None], "\ud800", "\x00"]
    kind = draw.randrange(4)
    if kind == 0:
        return draw.randbytes(draw.randrange(40))
    if kind == 1:
        return json.dumps(draw.choice(odd)).encode()
    body = {**valid, draw.choice([*valid, "other"]): draw.choice(odd)}
    text = bytearray(json.dumps(body).encode())
    if kind == 2:
        for _ in range(draw.randrange(1, 4)):
            text[draw.randrange(len(text))] = draw.randrange(256)
    return bytes(text[: draw.randrange(len(text) + 1)]) if draw.random() < 0.3 else bytes(text)


def malformed_scope(draw: random.Random) -> dict[str, Any]:
    headers = [(b"content-length", draw.choice([b"", b"-1", b"ten", b"\xff", b"9" * 30, b"\xc2\xb2", b"7"]))]
    method = draw.choice(["POST"] * 8 + ["GET", "DELETE", "\x00"])
    path = draw.choice(["/retrieve"] * 8 + ["/", "/retrieve/", "/../x", "/metrics", "/healthz"])
    return raw_scope(method=method, path=path, headers=headers if draw.random() < 0.2 else [])


def test_malformed_requests_never_break_the_server(app_over: Any, engine: Any) -> None:
    draw = random.Random(0)
    statuses: list[int] = []

    async def ask() -> None:
        app = app_over(engine, max_query_characters=100)
        async with app.running():
            for _ in range(MALFORMED):
                body = malformed_bodies(draw)
                cut = draw.randrange(len(body) + 1)
                messages = [
                    {"type": "http.request", "body": body[:cut], "more_body": True},
                    {"type": "http.request", "body": body[cut:]},
                ]
                sent = await raw_answer(app, malformed_scope(draw), messages)
                statuses.append(sent[0]["status"])

    asyncio.run(ask())
    assert len(statuses) == MALFORMED
    assert set(statuses) == {200, 400, 404, 405, 413, 422}
