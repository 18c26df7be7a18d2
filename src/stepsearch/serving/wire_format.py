"""Search-R1's `/retrieve`: what its clients and verl's send, and what they read.

    {"queries": ["…"], "topk": 3, "return_scores": true}
    {"result": [[{"document": {"id": "…", "contents": "\\"Title\\"\\nText"}, "score": 7.5}, …], …]}

Without scores a result is the document itself. A `topk` that is null, 0 or left out means the server's own.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json

from stepsearch.serving.refusal import Refusal
from stepsearch.serving.server_settings import ServerSettings
from stepsearch.types import Passage


class RetrieveRequest(BaseModel):
    """What a client sends; other keys are ignored, as Search-R1's server ignores them."""

    queries: list[str] = Field(description="What to search for.")
    topk: int | None = Field(default=None, description="Documents per query; null or 0: the server's own number.")
    return_scores: bool = Field(default=False, description="Put each document beside its score.")


class Document(BaseModel):
    """A passage; `contents` is its title in quotes, a line break, and its text. `image` is left out where none is."""

    id: str
    contents: str
    image: str | None = None


class ScoredDocument(BaseModel):
    """A document with the engine's score; null where the engine gives none."""

    document: Document
    score: float | None


class RetrieveResponse(BaseModel):
    """One list for each query, best document first."""

    result: list[list[ScoredDocument]] | list[list[Document]]


class Problem(BaseModel):
    """What was wrong with a request, or with answering it."""

    detail: str


def read_request(body: bytes, settings: ServerSettings) -> tuple[RetrieveRequest, int]:
    """Return a request, with the number of documents that each of its queries is to bring.

    Raises:
        Refusal: 400 if the body is not JSON, 422 if it asks for something else than searches within the bounds.
    """
    try:
        request = RetrieveRequest.model_validate_json(body)
    except ValidationError as error:
        raise _explain(error) from None
    top_k = request.topk or settings.top_k
    _check_bounds(request, top_k, settings)
    return request, top_k


def _explain(error: ValidationError) -> Refusal:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    message = problem["msg"]
    if problem["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {message.removeprefix('Invalid JSON: ')}")
    place = "".join(f"[{part}]" if isinstance(part, int) else f"{part}" for part in problem["loc"])
    return Refusal(422, f"{place or 'the body'}: {message[0].lower()}{message[1:]}")


def _check_bounds(request: RetrieveRequest, top_k: int, settings: ServerSettings) -> None:
    asked = len(request.queries)
    if asked > settings.max_queries:
        raise Refusal(422, f"queries: at most {settings.max_queries} in one request, got {asked}")
    if not 1 <= top_k <= settings.max_top_k:
        raise Refusal(422, f"topk: must be from 1 to {settings.max_top_k}, got {request.topk}")
    if asked * top_k > settings.max_results:
        raise Refusal(422, f"queries times topk: at most {settings.max_results} in one request, got {asked * top_k}")
    longest = max(map(len, request.queries), default=0)
    if longest > settings.max_query_characters:
        raise Refusal(422, f"queries: at most {settings.max_query_characters} characters each, got {longest}")


def render_response(results: Iterable[Sequence[Passage]], return_scores: bool) -> bytes:
    """Return the answer's body.

    Raises:
        TypeError, ValueError: a passage cannot be written as JSON.
    """
    render = _scored if return_scores else _document
    # A score that is no number has no JSON.
    return to_json({"result": [[render(passage) for passage in found] for found in results]}, inf_nan_mode="null")


def _scored(passage: Passage) -> dict[str, Any]:
    score = None if passage.score is None else float(passage.score)
    return {"document": _document(passage), "score": score}


def _document(passage: Passage) -> dict[str, str]:
    # Clients take the first line for the title and all others for the text.
    title = passage.title.replace("\n", " ")
    document = {"id": passage.id, "contents": f'"{title}"\n{passage.text}'}
    return document if passage.image is None else document | {"image": passage.image}
