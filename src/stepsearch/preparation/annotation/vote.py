"""Which queries are worth imitating: search engines vote with what they find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepsearch.matching.tfidf import golden_terms
from stepsearch.search.guarded_search import GuardedSearch, SearchOutcome
from stepsearch.types import Passage

# TF-IDF cosine from which two bodies are one document: another corpus cuts the same article in another place.
SAME_DOCUMENT = 0.8


@dataclass(frozen=True, slots=True)
class Proposal:
    """Queries of one sub-question, and the documents that one of them should find."""

    queries: tuple[str, ...]
    golden: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Ballot:
    """The engines' vote on one query: how many answered, and how many of those found a golden document."""

    answered: int
    found: int

    @property
    def passes(self) -> bool:
        """Whether at least half of the engines, rounded up, found a golden document."""
        return self.answered > 0 and self.found >= (self.answered + 1) // 2


def vote(proposals: Sequence[Proposal], engines: Mapping[str, GuardedSearch], top_k: int) -> list[tuple[Ballot, ...]]:
    """Return the ballot of each query of each proposal. Every engine is asked for all queries at once.

    An engine that gave no answer, though asked again, has no vote: it found nothing, and missed nothing.
    """
    queries = [query for proposal in proposals for query in proposal.queries]
    golden = [proposal.golden for proposal in proposals for _ in proposal.queries]
    results = [engine.search_batch(queries, top_k) for engine in engines.values()] if queries else []
    ballots = [_count([found[place] for found in results], golden[place]) for place in range(len(queries))]
    remaining = iter(ballots)
    return [tuple(next(remaining) for _ in proposal.queries) for proposal in proposals]


def _count(outcomes: Sequence[SearchOutcome], golden: Sequence[Passage]) -> Ballot:
    answers = [outcome for outcome in outcomes if not outcome.failed]
    return Ballot(len(answers), sum(finds_one(outcome.passages, golden) for outcome in answers))


def finds_one(passages: Sequence[Passage], golden: Sequence[Passage]) -> bool:
    """Return whether a golden document is among passages: by id, by its body, or by nearly the same body."""
    ids, bodies = {passage.id for passage in golden}, {passage.text for passage in golden}
    if any(passage.id in ids or passage.text in bodies for passage in passages):
        return True
    terms = golden_terms(tuple(passage.text for passage in golden))
    return any(max(terms.cosines(passage.text), default=0.0) >= SAME_DOCUMENT for passage in passages)
