"""What happened in an episode of text, in order: who said what, and what was searched and found."""

from collections.abc import Sequence

from stepsearch.evaluation.text_generation import Piece, Sampled, joined
from stepsearch.search.guarded_search import SearchOutcome
from stepsearch.types import FormatError, Question, SearchStep, StopReason, Trajectory


class Transcript:
    """Collects an episode's text and tokens, and builds its trajectory.

    Token ids are those that the generator knows; with one that knows none they stay empty.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._prompt_ids: tuple[int, ...] = ()
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._mask: list[int] = []
        self._logprobs: list[float] = []
        self._steps: list[SearchStep] = []
        self.corrections = 0

    @property
    def searches(self) -> int:
        """How many searches were executed."""
        return len(self._steps)

    def prompted(self, token_ids: Sequence[int]) -> None:
        """Note the ids of the prompt that the first text was sampled after; later prompts are not kept."""
        if not self._texts:
            self._prompt_ids = tuple(token_ids)

    def sampled(self, turn: Sampled) -> None:
        """Append what the model said."""
        self._texts.append(turn.text)
        self._ids += turn.token_ids
        self._mask += [1] * len(turn.token_ids)
        self._logprobs += turn.logprobs

    def observed(self, pieces: Sequence[Piece], token_ids: Sequence[int]) -> None:
        """Append what the environment wrote."""
        self._texts.append(joined(pieces))
        self._ids += token_ids
        self._mask += [0] * len(token_ids)
        self._logprobs += [0.0] * len(token_ids)

    def searched(self, query: str, outcome: SearchOutcome) -> None:
        """Note a search; it ends at the last token so far."""
        self._steps.append(SearchStep(query, outcome.passages, max(0, len(self._ids) - 1), outcome.failed))

    def trajectory(self, reason: StopReason, answer: str | None, format_error: FormatError | None) -> Trajectory:
        """Return the finished episode."""
        return Trajectory(
            question=self._question,
            prompt_ids=self._prompt_ids,
            response_ids=tuple(self._ids),
            response_mask=tuple(self._mask),
            rollout_logprobs=tuple(self._logprobs),
            steps=tuple(self._steps),
            answer=answer,
            format_error=format_error,
            stop_reason=reason,
            response_text="".join(self._texts),
            corrections=self.corrections,
        )
