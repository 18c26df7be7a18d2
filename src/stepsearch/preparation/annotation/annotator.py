"""From questions with a decomposition to questions with search keys: rewrite, write queries, keep those that find."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stepsearch.chat_endpoint import ChatEndpoint, Gap, GapKind, ask_structured
from stepsearch.preparation.annotation.drafts import Choice, Draft, GapNote, Hop, Queries, SubQuestions
from stepsearch.preparation.annotation.query_writing import queries_request, read_queries
from stepsearch.preparation.annotation.rewriting import read_rewriting, rewriting_request
from stepsearch.preparation.annotation.tally import Tally
from stepsearch.preparation.annotation.vote import Proposal, vote
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Question

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class AnnotationSettings:
    """How questions are annotated.

    Attributes:
        queries_per_step: reference queries that are asked for, per sub-question.
        top_k: documents in which an engine has to find a golden one.
        retries: how often a malformed reply is asked for again, before the rules fill in.
        block: questions that are finished together, so that a spent budget leaves whole questions. Some times the
            requests under way at once: a block waits for its last ones.
    """

    queries_per_step: int = 5
    top_k: int = 3
    retries: int = 2
    block: int = 32


@dataclass(frozen=True, slots=True)
class Annotation:
    """A block of questions, annotated."""

    questions: tuple[Question, ...]
    tally: Tally
    gaps: tuple[GapNote, ...]


def annotate(
    questions: Sequence[Question],
    endpoint: ChatEndpoint,
    engines: Mapping[str, GuardedSearch],
    settings: AnnotationSettings,
    advance: Callable[[float], None] = lambda amount: None,
) -> Iterator[Annotation]:
    """Yield the questions with rewritten sub-questions and reference queries, block by block, in their order.

    Args:
        questions: with or without a decomposition.
        endpoint: the model.
        engines: each has a vote on every query; at least one.
        settings: how.
        advance: is told how many questions were finished since the last call, in fractions.

    Raises:
        EndpointError: the endpoint cannot be used any more.
        DataError: the cache cannot be written.
    """
    for start in range(0, len(questions), settings.block):
        yield _annotate_block(questions[start : start + settings.block], endpoint, engines, settings, advance)


def _annotate_block(
    questions: Sequence[Question],
    endpoint: ChatEndpoint,
    engines: Mapping[str, GuardedSearch],
    settings: AnnotationSettings,
    advance: Callable[[float], None],
) -> Annotation:
    rewritings = _rewrite(questions, endpoint, settings, lambda: advance(0.5))
    steps = [_steps(*pair) for pair in zip(questions, rewritings, strict=True)]
    writings = _write_queries(steps, endpoint, settings, lambda: advance(0.5))
    drafts = [Draft(*parts) for parts in zip(questions, steps, rewritings, writings, strict=True)]
    hops = [draft.hops() for draft in drafts]
    chosen = iter(_choose([hop for of_draft in hops for hop in of_draft], engines, settings.top_k))
    choices = [[next(chosen) for _ in of_draft] for of_draft in hops]
    finished = [draft.finished(choice) for draft, choice in zip(drafts, choices, strict=True)]
    tallies = [draft.tally() for draft in drafts]
    tallies += [
        hop.tally(choice)
        for of_draft, of_choices in zip(hops, choices, strict=True)
        for hop, choice in zip(of_draft, of_choices, strict=True)
    ]
    gaps = tuple(note for draft in drafts for note in draft.notes())
    return Annotation(tuple(finished), sum(tallies, Tally()), gaps)


def _steps(question: Question, rewriting: SubQuestions | Gap) -> SubQuestions:
    """Return the steps to write queries for; none for a question that the budget does not reach any more."""
    if not isinstance(rewriting, Gap):
        return rewriting
    return () if rewriting.kind is GapKind.OVER_BUDGET else question.sub_questions


def _rewrite(
    questions: Sequence[Question], endpoint: ChatEndpoint, settings: AnnotationSettings, done: Callable[[], None]
) -> list[SubQuestions | Gap]:
    """Return the rewritten sub-questions of each question, or why there are none."""
    requests = [rewriting_request(question) for question in questions]
    replies = ask_structured(
        endpoint, requests, lambda place, text: read_rewriting(questions[place], text), settings.retries
    )
    return _in_order(replies, len(requests), done)


def _write_queries(
    steps: Sequence[SubQuestions], endpoint: ChatEndpoint, settings: AnnotationSettings, done: Callable[[], None]
) -> list[Queries | Gap]:
    """Return the queries of each question's sub-questions, or why there are none."""
    count = settings.queries_per_step
    asked = [place for place, sub_questions in enumerate(steps) if sub_questions]
    requests = [queries_request(steps[place], count) for place in asked]
    replies = ask_structured(
        endpoint, requests, lambda place, text: read_queries(steps[asked[place]], count, text), settings.retries
    )
    written = dict(zip(asked, _in_order(replies, len(requests), done), strict=True))
    return [written.get(place, ()) for place in range(len(steps))]


def _in_order(replies: Iterable[tuple[int, Value | Gap]], count: int, done: Callable[[], None]) -> list[Value | Gap]:
    by_place: dict[int, Value | Gap] = {}
    for place, value in replies:
        by_place[place] = value
        done()
    return [by_place[place] for place in range(count)]


def _choose(hops: Sequence[Hop], engines: Mapping[str, GuardedSearch], top_k: int) -> list[Choice]:
    """Return the queries of each hop: those of the model that pass the vote, else those of the rules that do."""
    of_model = _passing([(hop, hop.harmless) for hop in hops], engines, top_k)
    without = [(hop, hop.rules()) for hop, queries in zip(hops, of_model, strict=True) if not queries]
    of_rules = iter(_passing(without, engines, top_k))
    return [Choice(queries) if queries else Choice(next(of_rules), from_rules=True) for queries in of_model]


def _passing(
    candidates: Sequence[tuple[Hop, tuple[str, ...]]], engines: Mapping[str, GuardedSearch], top_k: int
) -> list[tuple[str, ...]]:
    """Return the queries that pass the vote; all of them where no golden document is known."""
    ballots = vote([Proposal(queries if hop.golden else (), hop.golden) for hop, queries in candidates], engines, top_k)
    return [
        tuple(query for query, ballot in zip(queries, cast, strict=True) if ballot.passes) if hop.golden else queries
        for (hop, queries), cast in zip(candidates, ballots, strict=True)
    ]
