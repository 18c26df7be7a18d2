"""One episode as a state machine: what follows from a sampled turn and from a search result (docs/algorithm.md)."""

from collections.abc import Sequence
from dataclasses import dataclass

from stepsearch.protocol import CORRECTION, NO_SEARCH_LEFT, Answer, Search, parse_turn
from stepsearch.rollout.budget import EpisodeBudget
from stepsearch.rollout.generation import EpisodeTokenizer, Segment, SegmentEnd
from stepsearch.rollout.recorder import EpisodeRecorder
from stepsearch.types import Passage, Question, StopReason, Trajectory


@dataclass(frozen=True, slots=True)
class EnvironmentText:
    """Token ids of what the environment writes besides search results."""

    correction: list[int]
    no_search_left: list[int]

    @classmethod
    def encode(cls, tokenizer: EpisodeTokenizer) -> "EnvironmentText":
        """Return the texts as the tokenizer encodes them."""
        return cls(tokenizer.encode_markup(CORRECTION), tokenizer.encode_markup(NO_SEARCH_LEFT))


class Episode:
    """Holds no engine and no search: it is told what was sampled and found, and says what it wants next.

    After `take_turn` and `take_documents` exactly one of three things holds: `trajectory` is there (it is over),
    `query` is there (it wants documents), or it wants to sample `turn_tokens` more after `context_ids`.
    """

    def __init__(
        self,
        question: Question,
        prompt_ids: Sequence[int],
        tokenizer: EpisodeTokenizer,
        environment: EnvironmentText,
        budget: EpisodeBudget,
    ) -> None:
        self._recorder = EpisodeRecorder(question, prompt_ids)
        self._prompt_length = len(prompt_ids)
        self._tokenizer = tokenizer
        self._environment = environment
        self._budget = budget
        self.query: str | None = None
        self.trajectory: Trajectory | None = None

    @property
    def context_ids(self) -> list[int]:
        """Every token so far."""
        return self._recorder.context_ids

    @property
    def turn_tokens(self) -> int:
        """How many tokens the next turn may sample."""
        return self._budget.turn_tokens(len(self.context_ids))

    def take_turn(self, segment: Segment) -> str:
        """Record one sampled turn, decide what follows, and return the turn's text."""
        text = self._tokenizer.decode(segment.token_ids)
        self._recorder.sampled(segment.token_ids, segment.logprobs, text)
        action = parse_turn(text)
        if isinstance(action, Answer):
            self._finish(StopReason.ANSWERED, action.text)
        elif not isinstance(action, Search):
            self._correct(segment.end)
        elif self._recorder.searches >= self._budget.max_search_steps:
            self._finish(StopReason.SEARCHES_SPENT)
        else:
            self.query = action.query
        return text

    def take_documents(self, passages: Sequence[Passage], failed: bool, observation_ids: Sequence[int]) -> None:
        """Record the result of the search that `query` asked for."""
        if self.query is None:
            raise ValueError("documents for an episode that asked for none")
        self._recorder.searched(self.query, passages, failed)
        self.query = None
        spent = self._recorder.searches >= self._budget.max_search_steps
        observed = [*observation_ids, *(self._environment.no_search_left if spent else ())]
        if self._fits(observed):
            self._recorder.observed(observed)
        else:
            self._finish(StopReason.CONTEXT_FULL)

    def _correct(self, end: SegmentEnd) -> None:
        """Answer a turn without a valid action by a correction, if one may still be given."""
        last_turn = self._recorder.searches >= self._budget.max_search_steps
        if end is SegmentEnd.END_OF_SEQUENCE:
            self._finish(StopReason.END_OF_SEQUENCE)
        elif len(self.context_ids) >= self._budget.max_length:
            self._finish(StopReason.CONTEXT_FULL)
        elif last_turn or self._recorder.corrections >= self._budget.max_corrections:
            self._finish(StopReason.NO_VALID_ACTION)
        elif not self._fits(self._environment.correction):
            self._finish(StopReason.CONTEXT_FULL)
        else:
            self._recorder.corrected(self._environment.correction)

    def _fits(self, more: Sequence[int]) -> bool:
        return self._budget.fits(len(self.context_ids) + len(more))

    def _finish(self, reason: StopReason, answer: str | None = None) -> None:
        text = self._tokenizer.decode(self.context_ids[self._prompt_length :])
        self.trajectory = self._recorder.trajectory(reason, answer, text)
