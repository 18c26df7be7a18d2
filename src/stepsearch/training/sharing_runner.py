"""Episodes played by all processes of a run."""

from collections.abc import Sequence

from stepsearch.rollout import EpisodeRunner
from stepsearch.training.processes import Processes
from stepsearch.types import Question, Trajectory


class SharingRunner:
    """Plays the episodes of a run, each process its share of them; every process has all of them in the end.

    Args:
        runner: plays the share of this process.
        processes: all of which play.
    """

    def __init__(self, runner: EpisodeRunner, processes: Processes) -> None:
        self._runner = runner
        self._processes = processes

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        """Return one trajectory per question, in their order.

        Raises:
            StepSearchError: what the runner of any process raised.
            ValueError: there are not as many seeds as questions.
        """

        def play(asked: Sequence[tuple[Question, int]]) -> list[Trajectory]:
            return self._runner.run([question for question, _ in asked], [seed for _, seed in asked])

        return self._processes.share_out(list(zip(questions, seeds, strict=True)), play)
