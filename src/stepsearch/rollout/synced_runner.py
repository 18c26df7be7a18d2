"""A runner whose engine samples from weights of its own, which follow the policy's."""

from collections.abc import Callable, Sequence

from stepsearch.rollout.runner import EpisodeRunner
from stepsearch.types import Question, Trajectory


class SyncedRunner:
    """Brings the engine's weights up to date before every run.

    Args:
        runner: plays.
        sync: gives its engine the policy's weights as they are now.
    """

    def __init__(self, runner: EpisodeRunner, sync: Callable[[], None]) -> None:
        self._runner, self._sync = runner, sync

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        """Return one trajectory per question, in their order.

        Raises:
            DataError: a question's prompt does not fit the context.
            ValueError: there are not as many seeds as questions.
        """
        self._sync()
        return self._runner.run(questions, seeds)
