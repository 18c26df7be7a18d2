"""The only writer of token facts: where each token came from is noted at its birth and never recovered from text."""

from collections.abc import Sequence

from stepsearch.protocol import format_error
from stepsearch.types import Passage, Question, SearchStep, StopReason, Trajectory


class EpisodeRecorder:
    """Collects the tokens and steps of one episode and builds its trajectory."""

    def __init__(self, question: Question, prompt_ids: Sequence[int]) -> None:
        self._question = question
        self._prompt_length = len(prompt_ids)
        self._context = list(prompt_ids)
        self._mask: list[int] = []
        self._logprobs: list[float] = []
        self._turns: list[str] = []
        self._steps: list[SearchStep] = []
        self._corrections = 0

    @property
    def context_ids(self) -> list[int]:
        """Every token so far, prompt included. The recorder's own list: read it, don't keep it."""
        return self._context

    @property
    def searches(self) -> int:
        """How many searches were executed."""
        return len(self._steps)

    @property
    def corrections(self) -> int:
        """How many corrections were given."""
        return self._corrections

    def sampled(self, token_ids: Sequence[int], logprobs: Sequence[float], text: str) -> None:
        """Append one turn of the policy; `text` is what its tokens spell."""
        if len(token_ids) != len(logprobs):
            raise ValueError(f"{len(token_ids)} sampled tokens came with {len(logprobs)} log-probabilities")
        self._context.extend(token_ids)
        self._mask.extend([1] * len(token_ids))
        self._logprobs.extend(logprobs)
        self._turns.append(text)

    def searched(self, query: str, passages: Sequence[Passage], failed: bool) -> None:
        """Note the search that the last sampled token closed. Call it before the observation is appended."""
        if not self._mask or not self._mask[-1]:
            raise ValueError("a search ends at a sampled token, and the last token is none")
        self._steps.append(SearchStep(query, tuple(passages), len(self._mask) - 1, failed))

    def observed(self, token_ids: Sequence[int]) -> None:
        """Append tokens that the environment wrote."""
        self._context.extend(token_ids)
        self._mask.extend([0] * len(token_ids))
        self._logprobs.extend([0.0] * len(token_ids))

    def corrected(self, token_ids: Sequence[int]) -> None:
        """Append a correction."""
        self.observed(token_ids)
        self._corrections += 1

    def trajectory(self, stop_reason: StopReason, answer: str | None, response_text: str) -> Trajectory:
        """Return the finished episode."""
        return Trajectory(
            question=self._question,
            prompt_ids=tuple(self._context[: self._prompt_length]),
            response_ids=tuple(self._context[self._prompt_length :]),
            response_mask=tuple(self._mask),
            rollout_logprobs=tuple(self._logprobs),
            steps=tuple(self._steps),
            answer=answer,
            format_error=format_error(self._turns, len(self._steps)),
            stop_reason=stop_reason,
            response_text=response_text,
            corrections=self._corrections,
        )
