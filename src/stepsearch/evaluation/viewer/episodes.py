"""Episodes as the page holds them: every text once, and numbers in place of names that repeat."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Generic, TypeVar

from stepsearch.evaluation.viewer.blocks import DOCUMENTS, SEARCH, Block, characters_read, episode_blocks
from stepsearch.rewards.reward_calculator import StepSearchRewardCalculator
from stepsearch.types import Passage, Question, SearchStep, Trajectory, TrajectoryReward

Key = TypeVar("Key")


class Numbering(Generic[Key]):
    """Numbers distinct things in the order in which they come."""

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}

    def __call__(self, key: Key) -> int:
        """Return the number of a thing."""
        return self._numbers.setdefault(key, len(self._numbers))

    def keys(self) -> list[Key]:
        """Return all things by their numbers."""
        return list(self._numbers)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says of an episode besides its trajectory.

    Attributes:
        em, f1: of the answer.
        reward: of the episode.
        training_step: when it was sampled, for a logged training episode.
        tokens: what the update knew of each token, as the log has it.
        more: other figures to show, by name.
    """

    em: float
    f1: float
    reward: TrajectoryReward
    training_step: int | None = None
    tokens: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


class EpisodeStore:
    """Gathers the episodes of a report.

    `rows` has one list per episode, what the list of the page shows and filters by: number of its source, dataset and
    question, EM, F1, stop reason, number of searches, training step. `details` has the rest, in the same order.
    """

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.details: list[dict[str, Any]] = []
        self.questions: list[dict[str, Any]] = []
        self.datasets: Numbering[str] = Numbering()
        self.stop_reasons: Numbering[str] = Numbering()
        self.documents: Numbering[tuple[str, str]] = Numbering()
        self._known: Numbering[tuple[str, str]] = Numbering()

    def add(
        self, source: int, dataset: str, trajectory: Trajectory, facts: Facts, key_gains: Sequence[float] | None
    ) -> None:
        """Add one episode.

        Args:
            source: number of the run and method that played it.
            dataset: where its question is from.
            trajectory: the episode.
            facts: what is known of it.
            key_gains: by how much each search raised the key reward; None without reference queries.
        """
        self.rows.append(
            [
                source,
                self.datasets(dataset),
                self._question(dataset, trajectory.question),
                facts.em,
                _rounded(facts.f1),
                self.stop_reasons(str(trajectory.stop_reason)),
                len(trajectory.steps),
                facts.training_step,
            ]
        )
        self.details.append(self._detail(trajectory, facts, key_gains))

    def _question(self, dataset: str, question: Question) -> int:
        number = self._known((dataset, question.id))
        if number == len(self.questions):
            golden = {passage.id: index for index, passage in enumerate(question.golden_passages)}
            self.questions.append(
                {
                    "id": question.id,
                    "text": question.question,
                    "answers": list(question.answers),
                    "hops": question.hops,
                    "kind": question.kind,
                    "golden": [self._document(passage) for passage in question.golden_passages],
                    "parts": [
                        {
                            "text": part.question,
                            "answer": part.answer,
                            "queries": list(part.search_queries),
                            "golden": golden.get(part.golden_passage_id or ""),
                        }
                        for part in question.sub_questions
                    ],
                }
            )
        return number

    def _document(self, passage: Passage) -> int:
        return self.documents((passage.title, passage.text))

    def _detail(self, trajectory: Trajectory, facts: Facts, key_gains: Sequence[float] | None) -> dict[str, Any]:
        parts = episode_blocks(trajectory.response_text, trajectory.steps)
        reward = facts.reward
        return {
            "prediction": trajectory.answer,
            "format_error": trajectory.format_error,
            "corrections": trajectory.corrections,
            "reward": {
                "total": _rounded(reward.total),
                "outcome": _rounded(reward.outcome),
                "answer": _rounded(reward.answer),
                "search_key": _rounded(reward.search_key),
            },
            "golden_recall": _rounded(reward.golden_recall),
            "blocks": [_block(part) for part in parts],
            "steps": [
                self._step(index, step, trajectory.question, parts)
                | _step_reward(reward, index)
                | {"key": None if key_gains is None else _rounded(key_gains[index])}
                for index, step in enumerate(trajectory.steps)
            ],
            "tokens": _tokens(facts.tokens, trajectory),
            "more": dict(facts.more),
        }

    def _step(self, index: int, step: SearchStep, question: Question, parts: Sequence[Block]) -> dict[str, Any]:
        shown = next((part.text for part in parts if part.kind == DOCUMENTS and part.step == index), None)
        return {
            "query": step.query,
            "failed": step.failed,
            "documents": [self._document(passage) for passage in step.passages],
            "golden": [_golden_index(passage, question) for passage in step.passages],
            "read": [
                None if shown is None else characters_read(shown, rank, passage)
                for rank, passage in enumerate(step.passages, start=1)
            ],
        }


def key_gains(
    calculator: StepSearchRewardCalculator, trajectory: Trajectory, reward: TrajectoryReward
) -> list[float] | None:
    """Return by how much each search raised the key reward of the searches before it; None without reference queries.

    They sum to the episode's key reward.

    Args:
        calculator: computed `reward`.
        trajectory: the episode.
        reward: of the whole episode.
    """
    if reward.search_key is None:
        return None
    # The key reward asks for no golden documents, and without them nothing else is computed.
    bare = replace(trajectory, question=replace(trajectory.question, golden_passages=()))
    starts = range(1, len(trajectory.steps))
    before = [calculator.score(replace(bare, steps=trajectory.steps[:count])).search_key or 0.0 for count in starts]
    rewards = [0.0, *before, reward.search_key]
    return [after - earlier for earlier, after in pairwise(rewards)][: len(trajectory.steps)]


def _golden_index(passage: Passage, question: Question) -> int | None:
    """Return which golden passage this is: by id, or with the very same body (as `rewards.golden_recall` counts)."""
    for index, golden in enumerate(question.golden_passages):
        if golden.id == passage.id or golden.text == passage.text:
            return index
    return None


def _block(part: Block) -> list[Any]:
    """Return a block for the page: of documents, and of a search that was executed, the step has the content."""
    if part.kind in (DOCUMENTS, SEARCH) and part.step is not None:
        return [part.kind, "", part.step]
    return [part.kind, part.text]


def _step_reward(reward: TrajectoryReward, index: int) -> dict[str, Any]:
    if reward.steps is None:
        return {"total": None, "gain": None, "penalty": None}
    step = reward.steps[index]
    return {
        "total": _rounded(step.total),
        "gain": _rounded(step.information_gain),
        "penalty": _rounded(step.redundancy_penalty),
    }


def _tokens(tokens: Mapping[str, Any] | None, trajectory: Trajectory) -> dict[str, Any] | None:
    if tokens is None:
        return None
    columns: dict[str, Any] = {
        name: None if tokens[name] is None else [_rounded(number) for number in tokens[name]]
        for name in ("token_level_rewards", "values", "advantages")
    }
    return {"texts": tokens["texts"], "mask": list(trajectory.response_mask), **columns}


def _rounded(number: float | None) -> float | None:
    """Return a number with the digits that the page shows; None for what is no number."""
    return None if number is None or not math.isfinite(number) else round(number, 4)
