"""The judge of `stepsearch evaluate --judge MODEL`: a language model behind `OPENAI_BASE_URL`."""

from collections.abc import Sequence
from pathlib import Path

from stepsearch.chat_endpoint import ChatEndpoint, EndpointSettings, ReplyCache
from stepsearch.evaluation.llm_judge import GivenAnswer, judge_answers
from stepsearch.evaluation.prediction_log import Prediction


class AnswerJudge:
    """Asks a model whether answers are right; its replies are kept in a file, and paid for once.

    Args:
        model: as the endpoint calls it.
        replies: the file.

    Raises:
        EndpointError: the endpoint cannot be asked.
    """

    def __init__(self, model: str, replies: Path) -> None:
        self._endpoint = ChatEndpoint(EndpointSettings(model=model), ReplyCache(replies))

    def __call__(self, predictions: Sequence[Prediction]) -> Sequence[float | None]:
        """Return how right each answer is; None where the model does not say."""
        given = [
            GivenAnswer(of.question.question, of.question.answers, of.answer)
            for of in (prediction.trajectory for prediction in predictions)
        ]
        return [None if right is None else float(right) for right in judge_answers(self._endpoint, given).verdicts]

    def spent(self) -> str:
        """Return in words what was asked so far."""
        usage = self._endpoint.usage
        return (
            f"judge: {usage.replies:,} replies paid, with {usage.prompt_tokens:,} tokens of prompts and "
            f"{usage.completion_tokens:,} of replies; {usage.cached:,} were there already"
        )

    def close(self) -> None:
        """Let go of the endpoint."""
        self._endpoint.close()
