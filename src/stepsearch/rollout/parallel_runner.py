"""Several runners at once, each in a thread with an engine of its own over the same weights."""

from collections.abc import Sequence
from functools import partial

from stepsearch.rollout.runner import EpisodeRunner
from stepsearch.side_by_side import side_by_side
from stepsearch.types import Question, Trajectory


class ParallelRunner:
    """Plays the episodes of a run on several runners.

    Questions are dealt in turn, so that which runner plays which depends on their order alone.

    Args:
        runners: each with an engine of its own; a search that they share is asked by one at a time.
    """

    def __init__(self, runners: Sequence[EpisodeRunner]) -> None:
        self._runners = runners

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        """Return one trajectory per question, in their order.

        Raises:
            DataError: a question's prompt does not fit the context.
            ValueError: there are not as many seeds as questions.
        """
        count = min(len(self._runners), max(len(questions), 1))
        shares = [partial(self._runners[i].run, questions[i::count], seeds[i::count]) for i in range(count)]
        played = side_by_side(shares, count)
        return [played[place % count][place // count] for place in range(len(questions))]
