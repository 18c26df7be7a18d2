import json

import pytest
from chat_server import Fault
from pydantic import BaseModel

from stepsearch.chat_endpoint import Budget, Gap, GapKind, ask_structured
from stepsearch.chat_endpoint.structured import read_form


class Sum(BaseModel):
    result: int


def read(index, text):
    return read_form(Sum, text).result


@pytest.mark.parametrize("text", ['{"result": 4}', '```json\n{"result": 4}\n```', ' ```\n{"result": 4}```\n'])
def test_a_form_is_read_through_a_fence(text):
    assert read_form(Sum, text).result == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Invalid JSON"),
        ('{"result": ', "Invalid JSON"),
        ('{"result": "four"}', "result: "),
        ("{}", "result: Field"),
    ],
)
def test_what_is_wrong_is_said(text, problem):
    with pytest.raises(ValueError, match=problem):
        read_form(Sum, text)


def test_a_malformed_reply_is_asked_for_again_with_what_was_wrong(server, open_endpoint, make_request, tmp_path):
    server.answer = lambda body: '{"result": 4}'
    server.faults.append(Fault("say", text='{"result": '))
    endpoint = open_endpoint(tmp_path / "c")
    assert list(ask_structured(endpoint, [make_request("2+2")], read)) == [(0, 4)]
    first, second = server.requests
    assert [message["role"] for message in first["messages"]] == ["user"]
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"] == '{"result": '
    assert "Invalid JSON" in second["messages"][2]["content"]
    # Both tries were paid for, and neither is paid for again.
    assert list(ask_structured(open_endpoint(tmp_path / "c"), [make_request("2+2")], read)) == [(0, 4)]
    assert len(server.requests) == 2


def test_retries_are_bounded(server, open_endpoint, make_request):
    server.answer = lambda body: "no JSON at all"
    endpoint = open_endpoint()
    found = dict(ask_structured(endpoint, [make_request("q1"), make_request("q2")], read, retries=2))
    assert {gap.kind for gap in found.values()} == {GapKind.MALFORMED}
    assert len(server.requests) == endpoint.usage.replies == 6


def test_gaps_say_why(server, open_endpoint, make_request):
    server.answer = lambda body: json.dumps({"result": 1})
    server.faults.append(Fault("status", 400, error={"message": "too long"}))
    endpoint = open_endpoint(concurrency=1, budget=Budget(max_tokens=150))
    requests = [make_request(f"q{n}", max_tokens=30) for n in range(3)]
    found = dict(ask_structured(endpoint, requests, read))
    assert isinstance(found[0], Gap)
    assert found[0].kind is GapKind.FAILED
    assert "too long" in found[0].reason
    assert found[1] == 1
    assert found[2] == Gap(GapKind.OVER_BUDGET, "the budget of 150 tokens is spent")
