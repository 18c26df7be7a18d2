"""How many golden documents an engine finds when it is asked as well as the data allows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stepsearch.preparation.coverage import Locations
from stepsearch.progress import Advance, unseen
from stepsearch.search.search_engine import SearchEngine
from stepsearch.types import Question

DEPTHS = (1, 3, 5, 10)
_BATCH = 64

# What is asked for a question, by the name of the way.
WAYS: dict[str, Callable[[Question], list[str]]] = {
    "question": lambda question: [question.question],
    "first_queries": lambda question: [sub.search_queries[0] for sub in question.sub_questions if sub.search_queries],
    "all_queries": lambda question: [query for sub in question.sub_questions for query in sub.search_queries],
}


@dataclass(frozen=True, slots=True)
class Recall:
    """What one way of asking finds for one question.

    Attributes:
        queries: how many different ones were asked.
        at_depth: by k of `DEPTHS`, the share of the golden documents among the first k results of any query.
    """

    queries: int
    at_depth: Mapping[int, float]


def recall_of(
    questions: Sequence[Question], locations: Locations, engine: SearchEngine, advance: Advance = unseen
) -> list[dict[str, Recall]]:
    """Return what each way of `WAYS` finds for each question with golden documents; empty for one without.

    A way that has no query for a question is left out. A golden document that the corpus lacks is never found.

    Args:
        questions: with their golden documents and reference queries.
        locations: the passages that are each golden document.
        engine: is asked for `max(DEPTHS)` results, each different query of a batch once.
        advance: called with shares of the whole work, 1 in sum.
    """
    recalls: list[dict[str, Recall]] = []
    for first in range(0, len(questions), _BATCH):
        batch = questions[first : first + _BATCH]
        asked = [_queries(question) if question.golden_passages else {} for question in batch]
        queries = list(dict.fromkeys(query for ways in asked for listed in ways.values() for query in listed))
        results = engine.search_batch(queries, max(DEPTHS)) if queries else []
        ranked = {query: [p.id for p in found] for query, found in zip(queries, results, strict=True)}
        recalls += [
            {way: _recall(question, listed, ranked, locations) for way, listed in ways.items()}
            for question, ways in zip(batch, asked, strict=True)
        ]
        advance(len(batch) / len(questions), f"{first + len(batch):,} questions")
    return recalls


def _queries(question: Question) -> dict[str, list[str]]:
    asked = {way: list(dict.fromkeys(of(question))) for way, of in WAYS.items()}
    return {way: queries for way, queries in asked.items() if queries}


def _recall(
    question: Question, queries: Sequence[str], ranked: Mapping[str, Sequence[str]], locations: Locations
) -> Recall:
    found = {depth: {i for query in queries for i in ranked[query][:depth]} for depth in DEPTHS}
    golden = question.golden_passages
    return Recall(
        queries=len(queries),
        at_depth={
            depth: sum(not ids.isdisjoint(locations[passage].passage_ids) for passage in golden) / len(golden)
            for depth, ids in found.items()
        },
    )
