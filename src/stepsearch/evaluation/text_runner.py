"""Plays a method over many questions at once: a round asks the model once and the search once, for all that wait."""

from collections.abc import Callable, Sequence

from stepsearch.evaluation.text_episode import Move, Play, Query, Reply, TextBudget, TextEpisode
from stepsearch.evaluation.text_generation import SampleRequest, TextGenerator
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Question, Trajectory

Method = Callable[[TextEpisode], Play]


class TextRunner:
    """Implements `rollout.EpisodeRunner` for a method.

    Args:
        method: how a question is answered.
        generator: samples texts.
        search: answers queries; never raises for an engine's fault.
        budget: what an episode may use.
    """

    def __init__(self, method: Method, generator: TextGenerator, search: GuardedSearch, budget: TextBudget) -> None:
        self._method = method
        self._generator = generator
        self._search = search
        self._budget = budget

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        """Return one trajectory per question, in their order; `seeds` decide the sampling noise, one each.

        Raises:
            ValueError: there are not as many seeds as questions.
        """
        plays = [
            self._method(TextEpisode(question, seed, self._budget, self._generator))
            for question, seed in zip(questions, seeds, strict=True)
        ]
        finished: dict[int, Trajectory] = {}
        replies: dict[int, Reply | None] = dict.fromkeys(range(len(plays)))
        while replies:
            moves = _advance(plays, replies, finished)
            replies = {**self._sample(moves), **self._find(moves)}
        return [finished[index] for index in range(len(plays))]

    def _sample(self, moves: dict[int, Move]) -> dict[int, Reply]:
        asking = {index: move for index, move in moves.items() if isinstance(move, SampleRequest)}
        sampled = self._generator.generate(list(asking.values())) if asking else []
        return dict(zip(asking, sampled, strict=True))

    def _find(self, moves: dict[int, Move]) -> dict[int, Reply]:
        asking = {index: move.text for index, move in moves.items() if isinstance(move, Query)}
        found = self._search.search_batch(list(asking.values()), self._budget.top_k) if asking else []
        return dict(zip(asking, found, strict=True))


def _advance(
    plays: Sequence[Play], replies: dict[int, Reply | None], finished: dict[int, Trajectory]
) -> dict[int, Move]:
    """Hand each play its reply (None starts it); return what they ask next, and note those that are over."""
    moves: dict[int, Move] = {}
    for index in sorted(replies):
        reply = replies[index]
        try:
            moves[index] = next(plays[index]) if reply is None else plays[index].send(reply)
        except StopIteration as end:
            finished[index] = end.value
    return moves
