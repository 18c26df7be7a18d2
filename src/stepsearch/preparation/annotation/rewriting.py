"""The first request of a question: its decomposition rewritten as sub-questions that can stand alone."""

import re
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict

from stepsearch.chat_endpoint import ChatMessage, ChatRequest
from stepsearch.chat_endpoint.structured import read_form
from stepsearch.matching.answers import exact_match
from stepsearch.preparation.annotation.leaks import gives_away
from stepsearch.types import Passage, Question, SubQuestion

# A question that comes without a decomposition may get so many steps.
MOST_STEPS = 6
# Of each golden document, where answers have to be found in them: the lead of an article nearly always suffices.
_DOCUMENT_CHARACTERS = 600
_PLACEHOLDER = re.compile(r"#\d|>>")

_INSTRUCTIONS = """\
You prepare training data for a search agent. You get a question that takes several steps to answer, its answer, and \
the steps. Rewrite every step as one natural question that can be understood on its own: it names what earlier steps \
found, and has no pronoun or placeholder that points elsewhere. It does not give its own answer away. Keep the number \
and the order of the steps. Copy given answers word for word.
Reply with JSON only: {"sub_questions": [{"sub_question": "…", "answer": "…"}]}"""
_WITHOUT_STEPS = "(none given: find two to five steps that lead to the answer, each of them answerable by one document)"
_WITHOUT_ANSWER = "(not given: as few words as possible, from the documents)"


class RewrittenStep(BaseModel):
    """One step as the model writes it."""

    model_config = ConfigDict(extra="forbid")
    sub_question: str
    answer: str


class Rewriting(BaseModel):
    """The whole reply."""

    model_config = ConfigDict(extra="forbid")
    sub_questions: list[RewrittenStep]


def rewriting_request(question: Question) -> ChatRequest:
    """Return the request that has a question's steps rewritten."""
    steps = len(question.sub_questions) or MOST_STEPS
    return ChatRequest(
        messages=(ChatMessage("system", _INSTRUCTIONS), ChatMessage("user", _describe(question))),
        max_tokens=128 + 128 * steps,
        schema=Rewriting.model_json_schema(),
    )


def read_rewriting(question: Question, text: str) -> tuple[SubQuestion, ...]:
    """Return the rewritten sub-questions; what the source knows of each (answer, golden document) stays.

    Raises:
        ValueError: the reply is malformed, has another number of steps or other answers than the source, points to
            other steps, or gives an answer away.
    """
    steps = read_form(Rewriting, text).sub_questions
    known = len(question.sub_questions)
    if not (len(steps) == known if known else 1 <= len(steps) <= MOST_STEPS):
        raise ValueError(f"there must be {known or f'1 to {MOST_STEPS}'} sub_questions, not {len(steps)}")
    sources = question.sub_questions or tuple(SubQuestion("", "") for _ in steps)
    for number, (step, source) in enumerate(zip(steps, sources, strict=True), start=1):
        _check(step, source, question, f"sub_question {number}")
    return tuple(
        replace(source, question=step.sub_question.strip(), answer=source.answer or step.answer.strip())
        for step, source in zip(steps, sources, strict=True)
    )


def _check(step: RewrittenStep, source: SubQuestion, question: Question, where: str) -> None:
    if not step.sub_question.strip() or not step.answer.strip():
        raise ValueError(f"{where} or its answer is blank")
    if _PLACEHOLDER.search(step.sub_question):
        raise ValueError(f"{where} has a placeholder in it: write what it stands for")
    if source.answer and not exact_match(step.answer, [source.answer]):
        raise ValueError(f"the answer of {where} must be '{source.answer}', word for word")
    if gives_away(step.sub_question, source.answer or step.answer, (source.question, question.question)):
        raise ValueError(f"{where} gives its own answer away")


def _describe(question: Question) -> str:
    lines = [f"Question: {question.question}", f"Answer: {question.answers[0]}", "Steps:"]
    lines += _described_steps(question.sub_questions) or [_WITHOUT_STEPS]
    if not question.sub_questions or not all(sub.answer for sub in question.sub_questions):
        lines += _described_documents(question.golden_passages)
    return "\n".join(lines)


def _described_steps(sub_questions: Sequence[SubQuestion]) -> list[str]:
    return [
        f"{number}. {sub.question}\n   answer: {sub.answer or _WITHOUT_ANSWER}"
        for number, sub in enumerate(sub_questions, start=1)
    ]


def _described_documents(passages: Sequence[Passage]) -> list[str]:
    texts = [f"- {passage.title}: {passage.text[:_DOCUMENT_CHARACTERS]}" for passage in passages]
    return ["Documents:", *texts] if texts else []
