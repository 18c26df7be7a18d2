"""Policies without a model, between whose scores every model's lie: they show what the data and the search allow.

They are evaluated by the same command, on the same corpus, as a model is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from stepsearch.matching.answers import cover_exact_match
from stepsearch.rewards.golden_recall import golden_recall
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import FormatError, Question, SearchStep, StopReason, SubQuestion, Trajectory

NO_SEARCH_ANSWER = "yes"
"""The most frequent answer of HotpotQA and 2WikiMultiHopQA: a guess that is right now and then."""


@dataclass(frozen=True, slots=True)
class NoSearchPolicy:
    """Answers every question with `NO_SEARCH_ANSWER`: the floor, reached by reading neither question nor document."""

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        """Return one trajectory per question."""
        return [_trajectory(question, (), NO_SEARCH_ANSWER) for question in questions]


@dataclass(frozen=True, slots=True)
class ReferencePolicy:
    """Issues the reference queries and answers from the golden documents: the ceiling of a corpus and a search engine.

    Each sub-question's first query comes first, in their order; then, while golden documents are missing, the other
    queries of the sub-questions whose own is. A question without sub-questions is its own query. It gives the right
    answer when the answer stands in a document that was found, or when all golden documents were found (a "yes" stands
    in none); else none.

    Args:
        search: finds the documents.
        top_k: documents per query.
        max_searches: searches an episode may have.
    """

    search: GuardedSearch
    top_k: int
    max_searches: int

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        """Return one trajectory per question; queries that are due at the same time are one batch."""
        episodes = [_Episode(question) for question in questions]
        for _ in range(self.max_searches):
            asking = [(episode, query) for episode in episodes if (query := episode.next_query()) is not None]
            outcomes = self.search.search_batch([query for _, query in asking], self.top_k) if asking else []
            for (episode, query), outcome in zip(asking, outcomes, strict=True):
                episode.steps.append(SearchStep(query, outcome.passages, 0, outcome.failed))
        return [_trajectory(episode.question, tuple(episode.steps), episode.answer()) for episode in episodes]


@dataclass(slots=True)
class _Episode:
    question: Question
    steps: list[SearchStep] = field(default_factory=list[SearchStep])

    def next_query(self) -> str | None:
        """Return the next query that is worth asking."""
        asked = {step.query for step in self.steps}
        hops = self.question.sub_questions
        first = [_queries(hop)[0] for hop in hops] or [self.question.question]
        more = [query for hop in hops for query in _queries(hop)[1:] if not self._is_found(hop)]
        done = golden_recall(self.question.golden_passages, self.steps) == 1
        return next((query for query in (*first, *(() if done else more)) if query not in asked), None)

    def answer(self) -> str | None:
        texts = [f"{passage.title} {passage.text}" for step in self.steps for passage in step.passages]
        readable = [answer for answer in self.question.answers if any(cover_exact_match(t, [answer]) for t in texts)]
        complete = golden_recall(self.question.golden_passages, self.steps) == 1
        return next(iter(readable), self.question.answers[0] if complete else None)

    def _is_found(self, hop: SubQuestion) -> bool:
        golden = [passage for passage in self.question.golden_passages if passage.id == hop.golden_passage_id]
        return golden_recall(golden, self.steps) == 1


def _queries(hop: SubQuestion) -> tuple[str, ...]:
    return hop.search_queries or (hop.question,)


def _trajectory(question: Question, steps: tuple[SearchStep, ...], answer: str | None) -> Trajectory:
    """Return an episode of text alone: there are no tokens to speak of."""
    error = FormatError.NO_ANSWER if answer is None else None if steps else FormatError.NO_SEARCH
    reason = StopReason.ANSWERED if answer is not None else StopReason.END_OF_SEQUENCE
    return Trajectory(question, (), (), (), (), steps, answer, error, reason, response_text=answer or "")
