"""Search by several engines at once, their rankings fused and, if wished, ordered again by a model that reads."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from stepsearch.errors import SearchError
from stepsearch.search.rank_fusion import RANK_CONSTANT, fuse
from stepsearch.search.search_engine import SearchEngine, as_passages
from stepsearch.types import Passage


class Reranker(Protocol):
    """Says how well passages fit a query."""

    def scores(self, query: str, passages: Sequence[Passage]) -> Sequence[float]:
        """Return a score per passage; more is better."""
        ...


class HybridSearchEngine(SearchEngine):
    """Fuses what several engines find by reciprocal rank. If one of them fails, so does the search.

    Args:
        engines: asked one after the other, each for the whole batch.
        rank_constant: reciprocal-rank fusion's k.
        candidates: passages asked of each engine; `top_k` where that is more.
        reranker: orders the best of the fused passages; what lies below them is left out.
        rerank_candidates: how many those are; `top_k` where that is more.

    Raises:
        SearchError: there is no engine.
    """

    def __init__(
        self,
        engines: Sequence[SearchEngine],
        rank_constant: float = RANK_CONSTANT,
        candidates: int = 50,
        reranker: Reranker | None = None,
        rerank_candidates: int = 20,
    ) -> None:
        if not engines:
            raise SearchError("search.engine_type hybrid fuses engines, and there is none: set search.hybrid.engines")
        self._engines = list(engines)
        self._rank_constant = rank_constant
        self._candidates = candidates
        self._reranker = reranker
        self._rerank_candidates = rerank_candidates
        # One that tries again by itself must not be asked again; the others get one try each.
        self.guards_itself = any(engine.guards_itself for engine in engines)

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        """Return at most `top_k` passages, best first, with fused scores, or the reranker's."""
        return self.search_batch([query], top_k)[0]

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        """Return the passages of each query, in the order of `queries`."""
        depth = max(self._candidates, top_k)
        rankings = [engine.search_batch(queries, depth) for engine in self._engines]
        found: list[list[Passage]] = []
        for query, *ranked in zip(queries, *rankings, strict=True):
            fused = fuse([as_passages(ranking, depth) for ranking in ranked], self._rank_constant)
            found.append(self._reranked(query, fused, top_k)[:top_k])
        return found

    def close(self) -> None:
        """Close the engines."""
        with ExitStack() as stack:
            for engine in self._engines:
                stack.callback(engine.close)

    def _reranked(self, query: str, passages: list[Passage], top_k: int) -> list[Passage]:
        if self._reranker is None:
            return passages
        read = passages[: max(self._rerank_candidates, top_k)]
        scores = self._reranker.scores(query, read)
        scored = [replace(passage, score=float(score)) for passage, score in zip(read, scores, strict=True)]
        return sorted(scored, key=lambda passage: -(passage.score or 0))
