import email.utils
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from chat_server import Fault

from stepsearch.chat_endpoint import (
    Budget,
    ChatEndpoint,
    ChatFailure,
    ChatReply,
    ChatUsage,
    EndpointSettings,
    Prices,
)
from stepsearch.errors import ConfigError, EndpointError


def outcomes(endpoint, requests):
    return [outcome for _, outcome in sorted(endpoint.complete_many(requests), key=lambda item: item[0])]


def texts(endpoint, requests):
    return [reply.text for reply in outcomes(endpoint, requests)]


def test_every_request_is_answered_in_its_place_and_paid_once(server, open_endpoint, make_request, tmp_path):
    requests = [make_request(f"q{n}") for n in (1, 2, 3, 1)]
    endpoint = open_endpoint(tmp_path / "cache.jsonl")
    assert texts(endpoint, requests) == ["echo q1", "echo q2", "echo q3", "echo q1"]
    assert len(server.requests) == 3
    assert endpoint.usage == ChatUsage(
        replies=3,
        prompt_tokens=300,
        completion_tokens=60,
        cached=1,
        cached_prompt_tokens=100,
        cached_completion_tokens=20,
    )
    again = open_endpoint(tmp_path / "cache.jsonl")
    assert texts(again, requests) == ["echo q1", "echo q2", "echo q3", "echo q1"]
    assert len(server.requests) == 3
    assert again.usage.replies == 0
    assert again.usage.cached == 4


def test_what_is_sent(server, open_endpoint, make_request):
    schema = {"type": "object", "properties": {}}
    open_endpoint().complete(make_request("q", max_tokens=7, temperature=0.5, schema=schema, stop=("</x>",), seed=3))
    assert server.requests == [
        {
            "model": "test",
            "messages": [{"role": "user", "content": "q"}],
            "max_tokens": 7,
            "temperature": 0.5,
            "seed": 3,
            "stop": ["</x>"],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": schema},
            },
        }
    ]


@pytest.mark.parametrize("change", [{"max_tokens": 9}, {"temperature": 1.0}, {"seed": 1}, {"stop": ("x",)}])
def test_another_request_is_another_reply(server, open_endpoint, make_request, change):
    endpoint = open_endpoint()
    outcomes(endpoint, [make_request("q"), make_request("q", **change)])
    assert endpoint.usage.replies == 2


def test_another_model_is_another_reply(server, open_endpoint, make_request, tmp_path):
    for model in ("one", "two", "one"):
        open_endpoint(tmp_path / "cache.jsonl", model=model).complete(make_request("q"))
    assert [body["model"] for body in server.requests] == ["one", "two"]


def test_no_more_requests_than_allowed_are_under_way(server, open_endpoint, make_request):
    server.delay = 0.1
    outcomes(open_endpoint(concurrency=3), [make_request(f"q{n}") for n in range(9)])
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", 500),
        Fault("status", 503),
        Fault("status", 429),
        Fault("silence", seconds=3),
        Fault("drop"),
        Fault("cut"),
        Fault("half_json"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_what_passes_is_tried_again(server, open_endpoint, make_request, fault):
    server.faults.append(fault)
    endpoint = open_endpoint(timeout_seconds=1.0)
    reply = endpoint.complete(make_request("q"))
    assert isinstance(reply, ChatReply)
    assert reply.text == "echo q"
    assert len(server.requests) == 2
    assert endpoint.usage.retries == 1


def test_retry_after_is_honoured(server, open_endpoint, make_request):
    server.faults.append(Fault("status", 429, {"Retry-After": "0.5"}))
    assert open_endpoint().complete(make_request("q")).text == "echo q"
    assert server.arrivals[1] - server.arrivals[0] >= 0.5


def test_retry_after_may_be_a_date(server, open_endpoint, make_request):
    endpoint, until = open_endpoint(), int(time.time()) + 2
    server.faults.append(Fault("status", 429, {"Retry-After": email.utils.formatdate(until, usegmt=True)}))
    assert endpoint.complete(make_request("q")).text == "echo q"
    since_arrival = time.monotonic() - server.arrivals[1]
    assert time.time() - since_arrival >= until


def test_others_wait_while_the_rate_limit_holds(server, open_endpoint, make_request):
    server.delay = 0.1
    server.faults.append(Fault("status", 429, {"Retry-After": "0.6"}))
    outcomes(open_endpoint(concurrency=2), [make_request(f"q{n}") for n in range(4)])
    # Two were under way when the limit was met; nothing else is sent before it is over.
    assert server.arrivals[2] - server.arrivals[0] >= 0.6
    assert len(server.requests) == 5


def test_an_hour_is_not_waited(server, open_endpoint, make_request):
    server.faults.append(Fault("status", 429, {"Retry-After": "3600"}))
    assert isinstance(open_endpoint().complete(make_request("q")), ChatFailure)
    assert len(server.requests) == 1


def test_one_failed_request_does_not_lose_the_rest(server, open_endpoint, make_request):
    server.faults.append(Fault("status", 400, error={"message": "too long"}))
    endpoint = open_endpoint(concurrency=1)
    first, second = outcomes(endpoint, [make_request("q1"), make_request("q2")])
    assert isinstance(first, ChatFailure)
    assert "too long" in first.reason
    assert second.text == "echo q2"
    assert endpoint.usage.failures == 1


def test_tries_are_bounded_and_a_failure_is_not_kept(server, open_endpoint, make_request, tmp_path):
    server.faults.extend([Fault("status", 500)] * 3)
    endpoint = open_endpoint(tmp_path / "cache.jsonl", retries=2)
    assert isinstance(endpoint.complete(make_request("q")), ChatFailure)
    assert len(server.requests) == 3
    assert endpoint.complete(make_request("q")).text == "echo q"


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, {"message": "wrong key"}), (404, {"message": "no such model"}), (429, {"code": "insufficient_quota"})],
)
def test_what_no_request_can_pass_stops_at_once(server, open_endpoint, make_request, status, error):
    server.faults.append(Fault("status", status, error=error))
    with pytest.raises(EndpointError, match="refuses model test"):
        outcomes(open_endpoint(concurrency=1), [make_request(f"q{n}") for n in range(5)])
    assert len(server.requests) == 1


def test_an_endpoint_that_is_down_stops_the_run(server, open_endpoint, make_request):
    endpoint = open_endpoint(concurrency=1, retries=0)
    assert texts(endpoint, [make_request("q")]) == ["echo q"]
    server.stop()
    with pytest.raises(EndpointError, match="did not answer 10 requests in a row"):
        outcomes(endpoint, [make_request(f"q{n}") for n in range(50)])


def test_a_server_that_dies_half_way_and_comes_back(server, open_endpoint, make_request, tmp_path):
    requests = [make_request(f"q{n}") for n in range(10)]
    server.dies_after = 5
    threading.Timer(0.6, server.start).start()
    endpoint = open_endpoint(tmp_path / "cache.jsonl", concurrency=2, backoff_seconds=0.3)
    assert texts(endpoint, requests) == [f"echo q{n}" for n in range(10)]
    assert server.answered == endpoint.usage.replies == 10
    assert endpoint.usage.retries >= 1


@pytest.mark.parametrize(
    ("parameter", "instead"),
    [("max_tokens", "max_completion_tokens"), ("temperature", None), ("response_format", None)],
)
def test_a_parameter_that_the_model_does_not_know(server, open_endpoint, make_request, parameter, instead, caplog):
    message = f"Unsupported parameter: '{parameter}' is not supported with this model."
    error = {"message": message, "param": parameter, "code": "unsupported_parameter"}
    server.faults.append(Fault("status", 400, error=error))
    endpoint = open_endpoint(concurrency=1)
    requests = [make_request("q1", schema={"type": "object"}), make_request("q2", schema={"type": "object"})]
    with caplog.at_level(logging.WARNING):
        assert texts(endpoint, requests) == ["echo q1", "echo q2"]
    assert [parameter in body for body in server.requests] == [True, False, False]
    assert [instead in body for body in server.requests] == [False, instead is not None, instead is not None]
    assert f"does not support {parameter}" in caplog.text


def test_tokens_are_estimated_where_the_endpoint_counts_none(server, open_endpoint, make_request):
    server.counts_tokens = False
    # Four bytes to a token: "12345678" and "echo 12345678".
    assert open_endpoint().complete(make_request("12345678")) == ChatReply("echo 12345678", 2, 4, "stop")


def test_requests_that_are_under_way_together_all_learn_what_is_not_supported(server, open_endpoint, make_request):
    error = {"message": "temperature is not supported", "param": "temperature", "code": "unsupported_parameter"}
    server.faults.extend([Fault("status", 400, error=error, seconds=0.1)] * 2)
    requests = [make_request("q1"), make_request("q2")]
    assert texts(open_endpoint(concurrency=2), requests) == ["echo q1", "echo q2"]
    assert ["temperature" in body for body in server.requests] == [True, True, False, False]


class TestBudget:
    # A reply costs 100 prompt and 20 completion tokens. The most that "q0", 2 bytes, can cost is 2 + 16 + 64 prompt
    # tokens and max_tokens, 30 here: 112.

    def test_it_stops_before_the_limit_might_be_passed(self, server, open_endpoint, make_request):
        requests = [make_request(f"q{n}", max_tokens=30) for n in range(9)]
        endpoint = open_endpoint(budget=Budget(max_tokens=360), concurrency=1)
        found = outcomes(endpoint, requests)
        # 0 + 112, 120 + 112 and 240 + 112 are within 360; 360 + 112 is not.
        assert [isinstance(outcome, ChatReply) for outcome in found] == [True] * 3 + [False] * 6
        assert len(server.requests) == 3
        assert found[-1] == ChatFailure("the budget of 360 tokens is spent", over_budget=True)
        assert endpoint.usage.over_budget == 6

    def test_cost_counts_by_price(self, server, open_endpoint, make_request):
        prices = Prices(prompt=10.0, completion=100.0)
        assert prices.cost(100, 20) == pytest.approx(0.003)
        endpoint = open_endpoint(budget=Budget(max_cost=0.0075, prices=prices), concurrency=1)
        # The most a request costs is 82 x 10 + 30 x 100 = 3,820 millionths; two replies cost 6,000.
        found = outcomes(endpoint, [make_request(f"q{n}", max_tokens=30) for n in range(5)])
        assert [isinstance(outcome, ChatReply) for outcome in found] == [True, True, False, False, False]

    def test_those_under_way_are_counted_in(self, server, open_endpoint, make_request):
        server.delay = 0.3
        endpoint = open_endpoint(budget=Budget(max_tokens=240), concurrency=4)
        found = outcomes(endpoint, [make_request(f"q{n}", max_tokens=30) for n in range(6)])
        # Two can be under way at 112 each; what they did cost, 240, leaves nothing.
        assert len(server.requests) == server.most_at_once == 2
        assert sum(isinstance(outcome, ChatReply) for outcome in found) == 2

    def test_what_the_cache_has_is_free(self, server, open_endpoint, make_request, tmp_path):
        requests = [make_request(f"q{n}", max_tokens=30) for n in range(4)]
        open_endpoint(tmp_path / "c", concurrency=1, budget=Budget(max_tokens=200)).complete(requests[3])
        endpoint = open_endpoint(tmp_path / "c", concurrency=1, budget=Budget(max_tokens=130))
        found = outcomes(endpoint, requests)
        assert [isinstance(outcome, ChatReply) for outcome in found] == [True, False, False, True]

    @pytest.mark.parametrize(
        "limits", [{"max_cost": 1.0}, {"max_tokens": 0}, {"max_cost": -1.0, "prices": Prices(1, 1)}]
    )
    def test_impossible_limits(self, limits):
        with pytest.raises(ConfigError):
            Budget(**limits)

    @pytest.mark.parametrize("price", [-1.0, float("nan")])
    def test_impossible_prices(self, price):
        with pytest.raises(ConfigError, match="0 or more"):
            Prices(1.0, price)


def test_leaving_early_keeps_what_is_paid(server, open_endpoint, make_request, tmp_path, caplog):
    echo = server.answer

    def slow_at_first(body):
        time.sleep(0.5 if "q1" in echo(body) else 0)
        return echo(body)

    server.answer = slow_at_first
    endpoint = open_endpoint(tmp_path / "c", concurrency=2)
    replies = endpoint.complete_many([make_request(f"q{n}") for n in range(9)])
    next(replies)
    with caplog.at_level(logging.WARNING):
        replies.close()
    assert "replies under way" in caplog.text
    asked = len(server.requests)
    assert asked == 2
    again = open_endpoint(tmp_path / "c")
    outcomes(again, [make_request(f"q{n}") for n in range(9)])
    assert len(server.requests) == 9
    assert again.usage.cached == asked


RUN = """
import sys
from pathlib import Path
from stepsearch.chat_endpoint import *
endpoint = ChatEndpoint(EndpointSettings("test", sys.argv[1], concurrency=1), ReplyCache(Path(sys.argv[2])))
for index, reply in endpoint.complete_many(ChatRequest((ChatMessage("user", f"q{n}"),)) for n in range(30)):
    print(index, reply.text, flush=True)
"""


def test_a_killed_run_pays_nothing_twice(server, open_endpoint, make_request, tmp_path: Path):
    server.delay = 0.15
    cache = tmp_path / "cache.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, server.url, str(cache)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = cache.read_bytes().count(b"\n")
    assert 3 <= kept < 30
    server.delay = 0.0
    endpoint = open_endpoint(cache)
    assert texts(endpoint, [make_request(f"q{n}") for n in range(30)]) == [f"echo q{n}" for n in range(30)]
    assert endpoint.usage.cached == kept
    assert endpoint.usage.replies == 30 - kept


def test_openai_itself_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(EndpointError, match="OPENAI_API_KEY"):
        ChatEndpoint(EndpointSettings())


def test_the_environment_names_the_endpoint(server, monkeypatch, make_request):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
    endpoint = ChatEndpoint(EndpointSettings())
    assert endpoint.base_url == server.url
    assert endpoint.complete(make_request("q")).text == "echo q"
    assert server.requests[0]["model"] == "gpt-4o"
    endpoint.close()


def test_an_address_that_is_none():
    with pytest.raises(EndpointError, match="must start with http"):
        ChatEndpoint(EndpointSettings(base_url="localhost:8000/v1"))


def test_a_missing_client_is_named_with_its_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(EndpointError, match=r'pip install "stepsearch\[openai\]"'):
        ChatEndpoint(EndpointSettings(base_url="http://127.0.0.1:1/v1"))


def test_the_key_is_never_shown():
    assert "sk-secret" not in repr(EndpointSettings(api_key="sk-secret"))


def test_the_client_is_imported_late():
    code = "import sys, stepsearch.chat_endpoint; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
