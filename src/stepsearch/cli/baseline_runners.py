"""The baselines as runners of episodes, so that their figures are made as a model's are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepsearch.cli.assembly import Player
from stepsearch.evaluation.baselines import Baselines
from stepsearch.rollout import EpisodeRunner
from stepsearch.types import FormatError, Question, StopReason, Trajectory

Answers = Callable[[Baselines, Sequence[Question], Sequence[int]], list[str | None]]

BASELINES: dict[str, Answers] = {"direct": Baselines.direct, "single_shot_rag": Baselines.single_shot}


@dataclass(frozen=True, slots=True)
class AnswerRunner:
    """Plays a baseline of which nothing but the answers is known."""

    baselines: Baselines
    answers: Answers

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        """Return one trajectory per question, without tokens and searches."""
        answers = self.answers(self.baselines, questions, seeds)
        return [_trajectory(question, answer) for question, answer in zip(questions, answers, strict=True)]


def baseline_runner(player: Player, name: str, temperature: float) -> EpisodeRunner:
    """Return the runner of a baseline with the player's model and search."""
    return AnswerRunner(player.baselines(temperature), BASELINES[name])


def _trajectory(question: Question, answer: str | None) -> Trajectory:
    error = FormatError.NO_ANSWER if answer is None else FormatError.NO_SEARCH
    reason = StopReason.NO_VALID_ACTION if answer is None else StopReason.ANSWERED
    return Trajectory(question, (), (), (), (), (), answer, error, reason, response_text=answer or "")
