"""What an annotation would cost, before anything is sent."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stepsearch.chat_endpoint import ChatReply, ChatRequest
from stepsearch.chat_endpoint.messages import likely_prompt_tokens, likely_tokens
from stepsearch.data.search_keys import reference_queries
from stepsearch.preparation.annotation.drafts import SubQuestions
from stepsearch.preparation.annotation.query_writing import queries_request
from stepsearch.preparation.annotation.rewriting import read_rewriting, rewriting_request
from stepsearch.types import Question, SubQuestion

# Stands for the steps of a question that comes without any.
_TYPICAL_STEP = SubQuestion("What is the capital of the country that the river flows through?", "Ouagadougou")
_TYPICAL_STEPS = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """What would be sent: requests that the cache does not answer, and about how many tokens they have.

    Malformed replies, which are asked for again, are not foreseen.
    """

    requests: int
    cached: int
    prompt_tokens: int
    completion_tokens: int


def estimate(
    questions: Sequence[Question], queries_per_step: int, cached: Callable[[ChatRequest], ChatReply | None]
) -> Estimate:
    """Return what annotating the questions would cost.

    Args:
        questions: what would be annotated.
        queries_per_step: as in the annotation.
        cached: returns the reply to a request that was paid for.
    """
    asked = [pair for question in questions for pair in _requests(question, queries_per_step, cached)]
    to_pay = [(request, reply) for request, reply in asked if cached(request) is None]
    return Estimate(
        requests=len(to_pay),
        cached=len(asked) - len(to_pay),
        prompt_tokens=sum(likely_prompt_tokens(request) for request, _ in to_pay),
        completion_tokens=sum(likely_tokens(reply) for _, reply in to_pay),
    )


def _requests(
    question: Question, queries_per_step: int, cached: Callable[[ChatRequest], ChatReply | None]
) -> Iterator[tuple[ChatRequest, str]]:
    """Yield a question's requests, each with a reply such as may be expected."""
    rewriting = rewriting_request(question)
    steps = question.sub_questions or (_TYPICAL_STEP,) * _TYPICAL_STEPS
    yield rewriting, json.dumps([{"sub_question": sub.question, "answer": sub.answer} for sub in steps])
    steps = _rewritten(question, cached(rewriting)) or steps
    queries = [[_likely_query(sub)] * queries_per_step for sub in steps]
    yield queries_request(steps, queries_per_step), json.dumps([{"queries": group} for group in queries])


def _rewritten(question: Question, reply: ChatReply | None) -> SubQuestions:
    if reply is None:
        return ()
    try:
        return read_rewriting(question, reply.text)
    except ValueError:
        return ()


def _likely_query(sub_question: SubQuestion) -> str:
    return next(iter(reference_queries(sub_question.question, ())), sub_question.question)
