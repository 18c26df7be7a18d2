import json

import pytest

from stepsearch.search.retrieved_documents import passage_from_document
from stepsearch.serving import ServerSettings
from stepsearch.serving.refusal import Refusal
from stepsearch.serving.wire_format import read_request, render_response
from stepsearch.types import Passage

SETTINGS = ServerSettings(top_k=4)
FOUND = [[Passage("7", "Paris is a city.", "Paris", 2.5), Passage("8", "First line.\nSecond.", "", None)], []]
DOCUMENTS = [{"id": "7", "contents": '"Paris"\nParis is a city.'}, {"id": "8", "contents": '""\nFirst line.\nSecond.'}]


def test_results_with_scores() -> None:
    first, second = DOCUMENTS
    expected = [[{"document": first, "score": 2.5}, {"document": second, "score": None}], []]
    assert json.loads(render_response(FOUND, return_scores=True)) == {"result": expected}


def test_results_without_scores_are_the_documents() -> None:
    assert json.loads(render_response(FOUND, return_scores=False)) == {"result": [DOCUMENTS, []]}


def test_an_image_goes_with_its_document_and_comes_back() -> None:
    passage = Passage("1", "A flag.", "Flags", image="flag.png")
    document = json.loads(render_response([[passage]], return_scores=False))["result"][0][0]
    assert document == {"id": "1", "contents": '"Flags"\nA flag.', "image": "flag.png"}
    assert passage_from_document(document) == passage


def test_a_title_of_two_lines_stays_the_first_line() -> None:
    body = render_response([[Passage("1", "Text.", "A\nB")]], return_scores=False)
    assert json.loads(body)["result"][0][0]["contents"] == '"A B"\nText.'


def test_a_score_that_is_no_number_is_null() -> None:
    body = render_response([[Passage("1", "Text.", score=float("nan"))]], return_scores=True)
    assert json.loads(body)["result"][0][0]["score"] is None


@pytest.mark.parametrize(
    ("body", "queries", "top_k", "return_scores"),
    [
        ({"queries": ["a", "a"], "topk": 2, "return_scores": True}, ["a", "a"], 2, True),
        ({"queries": ["a"], "topk": None, "return_scores": False}, ["a"], 4, False),
        ({"queries": ["a"], "topk": 0}, ["a"], 4, False),
        ({"queries": []}, [], 4, False),
        ({"queries": [""], "topk": "5", "other": 1}, [""], 5, False),
    ],
)
def test_what_search_r1s_server_takes(body: object, queries: list[str], top_k: int, return_scores: bool) -> None:
    request, asked = read_request(json.dumps(body).encode(), SETTINGS)
    assert (request.queries, asked, request.return_scores) == (queries, top_k, return_scores)


BOUNDS = ServerSettings(top_k=3, max_queries=4, max_query_characters=10, max_top_k=5, max_results=12)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is not JSON: "),
        (b'{"queries": ["a"]', 400, "the body is not JSON: "),
        (b'{"queries": ["\xff"]}', 400, "the body is not JSON: "),
        (b"[" * 100_000, 400, "the body is not JSON: "),
        (b"[]", 422, "the body: input should be an object"),
        (b"{}", 422, "queries: field required"),
        (b'{"queries": "a"}', 422, "queries: input should be a valid array"),
        (b'{"queries": ["a", 1]}', 422, r"queries\[1\]: input should be a valid string"),
        (b'{"queries": ["a"], "topk": "many"}', 422, "topk: input should be a valid integer"),
        (b'{"queries": ["a"], "topk": 1.5}', 422, "topk: input should be a valid integer"),
        (b'{"queries": ["a"], "topk": -1}', 422, "topk: must be from 1 to 5, got -1"),
        (b'{"queries": ["a"], "topk": 6}', 422, "topk: must be from 1 to 5, got 6"),
        (b'{"queries": ["a"], "topk": 1' + b"0" * 4000 + b"}", 422, "topk: must be from 1 to 5"),
        (b'{"queries": ["a"], "topk": 1' + b"0" * 5000 + b"}", 400, "the body is not JSON: number out of range"),
        (b'{"queries": ["a"], "topk": 1e300}', 422, "topk: "),
        (b'{"queries": ["a"], "return_scores": "perhaps"}', 422, "return_scores: input should be a valid boolean"),
        (b'{"queries": ["a", "b", "c", "d", "e"]}', 422, "queries: at most 4 in one request, got 5"),
        (b'{"queries": ["a", "b", "c"], "topk": 5}', 422, "queries times topk: at most 12 in one request, got 15"),
        (b'{"queries": ["a", "12345678901"]}', 422, "queries: at most 10 characters each, got 11"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, status: int, message: str) -> None:
    with pytest.raises(Refusal, match=f"^{message}") as caught:
        read_request(body, BOUNDS)
    assert caught.value.status == status
    assert "\n" not in caught.value.detail
