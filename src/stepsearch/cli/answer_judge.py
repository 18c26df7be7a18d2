"""The judge of `stepsearch evaluate --judge MODEL`: a language model behind `OPENAI_BASE_URL`."""

from collections.abc import Sequence
from pathlib import Path

from stepsearch.chat_endpoint import ChatEndpoint, EndpointSettings, ReplyCache
from stepsearch.evaluation.judging import Judge
from stepsearch.evaluation.llm_judge import GivenAnswer, judge_answers
from stepsearch.evaluation.prediction_log import Prediction


def open_judge(model: str, replies: Path) -> Judge:
    """Return what asks a model whether answers are right; its replies are kept in a file, and paid for once.

    Raises:
        EndpointError: the endpoint cannot be asked.
    """
    endpoint = ChatEndpoint(EndpointSettings(model=model), ReplyCache(replies))

    def judge(predictions: Sequence[Prediction]) -> Sequence[float | None]:
        given = [
            GivenAnswer(of.question.question, of.question.answers, of.answer)
            for of in (prediction.trajectory for prediction in predictions)
        ]
        return [None if right is None else float(right) for right in judge_answers(endpoint, given).verdicts]

    return judge
