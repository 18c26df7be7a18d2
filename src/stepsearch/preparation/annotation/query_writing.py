"""The second request of a question: reference queries for each of its sub-questions."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from stepsearch.chat_endpoint import ChatMessage, ChatRequest
from stepsearch.chat_endpoint.structured import read_form
from stepsearch.types import SubQuestion

_INSTRUCTIONS = """\
You prepare training data for a search agent. For every sub-question write {count} different queries that a person \
would type into a search engine to find a document with its answer. A query is short, names what it is about in full, \
and never contains the answer; vary wording and word order.
Reply with JSON only, one entry for each sub-question in their order: {{"steps": [{{"queries": ["…"]}}]}}"""


class StepQueries(BaseModel):
    """The queries of one sub-question."""

    model_config = ConfigDict(extra="forbid")
    queries: list[str]


class QueryList(BaseModel):
    """The whole reply."""

    model_config = ConfigDict(extra="forbid")
    steps: list[StepQueries]


def queries_request(sub_questions: Sequence[SubQuestion], count: int) -> ChatRequest:
    """Return the request for `count` queries for each sub-question."""
    lines = [f"{number}. {sub.question}\n   answer: {sub.answer}" for number, sub in enumerate(sub_questions, start=1)]
    return ChatRequest(
        messages=(ChatMessage("system", _INSTRUCTIONS.format(count=count)), ChatMessage("user", "\n".join(lines))),
        max_tokens=64 + 40 * count * len(sub_questions),
        schema=QueryList.model_json_schema(),
    )


def read_queries(sub_questions: Sequence[SubQuestion], count: int, text: str) -> tuple[tuple[str, ...], ...]:
    """Return at most `count` different queries for each sub-question.

    Raises:
        ValueError: the reply is malformed, or a sub-question has no query.
    """
    steps = read_form(QueryList, text).steps
    if len(steps) != len(sub_questions):
        raise ValueError(f"there must be {len(sub_questions)} steps, not {len(steps)}")
    queries = tuple(_distinct(step.queries)[:count] for step in steps)
    if not all(queries):
        raise ValueError(f"step {queries.index(()) + 1} has no query")
    return queries


def _distinct(queries: Sequence[str]) -> tuple[str, ...]:
    """Return the queries on one line each, without blank and repeated ones."""
    tidy = [" ".join(query.split()) for query in queries]
    return tuple({query.casefold(): query for query in reversed(tidy) if query}.values())[::-1]
