import asyncio
from typing import Any

import httpx
import pytest

from stepsearch.errors import ConfigError
from stepsearch.serving import ServerSettings

QUERY = {"queries": ["q"], "topk": 1}


def get(serve: Any, engine: Any, path: str, **settings: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with serve(engine, **settings) as client:
            await client.post("/retrieve", json=QUERY)
            await client.post("/retrieve", json=QUERY)
            await client.post("/retrieve", content=b"{")
            return await client.get(path)

    return asyncio.run(ask())


def test_health(serve: Any, engine: Any) -> None:
    assert get(serve, engine, "/healthz", top_k=2).json() == {"status": "ok", "engine": "mine", "topk": 2}


def test_metrics(serve: Any, engine: Any) -> None:
    answer = get(serve, engine, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'stepsearch_search_requests_total{status="200"} 2' in lines
    assert 'stepsearch_search_requests_total{status="400"} 1' in lines
    assert "stepsearch_search_queries_total 2" in lines
    assert "stepsearch_search_engine_batches_total 2" in lines
    assert "stepsearch_search_request_seconds_count 3" in lines
    assert "stepsearch_search_waiting_queries 0" in lines


def test_the_docs_describe_every_page(serve: Any, engine: Any) -> None:
    schema = get(serve, engine, "/openapi.json").json()
    assert set(schema["paths"]) == {"/retrieve", "/healthz", "/metrics"}
    request = schema["components"]["schemas"]["RetrieveRequest"]["properties"]
    assert set(request) == {"queries", "topk", "return_scores"}
    assert set(schema["paths"]["/retrieve"]["post"]["responses"]) == {"200", "400", "401", "413", "422", "502", "503"}
    assert get(serve, engine, "/docs").status_code == 200


def test_those_who_are_turned_away_are_counted(serve: Any, engine: Any) -> None:
    async def ask() -> str:
        async with serve(engine, token="s3cret") as client:
            await client.post("/retrieve", json=QUERY)
            await client.get("/metrics")
            return (await client.get("/metrics", headers={"Authorization": "Bearer s3cret"})).text

    assert 'stepsearch_search_requests_total{status="401"} 1\n' in asyncio.run(ask())


@pytest.mark.parametrize("path", ["/retrieve", "/metrics", "/docs", "/openapi.json", "/nowhere"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Bearer s3cret ", "Basic s3cret", "bearer s3cret"])
def test_the_token_opens_everything(serve: Any, engine: Any, path: str, header: str | None) -> None:
    async def ask() -> httpx.Response:
        async with serve(engine, token="s3cret") as client:
            headers = {} if header is None else {"Authorization": header}
            return await client.request("POST" if path == "/retrieve" else "GET", path, headers=headers, json=QUERY)

    answer = asyncio.run(ask())
    if header in ("Bearer s3cret ", "bearer s3cret"):
        assert answer.status_code in (200, 404)
    else:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert engine.calls == []


def test_health_needs_no_token(serve: Any, engine: Any) -> None:
    assert get(serve, engine, "/healthz", token="s3cret").status_code == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_batch": 0}, "max_batch must be positive"),
        ({"batch_milliseconds": -1}, "batch_milliseconds must be from 0"),
        ({"max_queries": 10, "max_waiting": 5}, r"max_queries \(10\) is more than max_waiting \(5\)"),
        ({"top_k": 200}, r"top_k \(200\) is more than max_top_k \(100\)"),
        ({"token": "p\u00e4ss"}, "printable ASCII"),
        ({"token": " "}, "printable ASCII"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServerSettings(**settings)
