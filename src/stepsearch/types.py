"""The values that flow between the parts: questions in, trajectories and rewards out.

All are frozen. "Not computed" is `None`, never 0. S is the number of search steps of an episode, R the number of
tokens after its prompt.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrievable document.

    Attributes:
        id: its identity.
        text: the body without the title; of an image its caption, which is all that a policy reads of it.
        title: what it is about.
        score: the engine's, higher is better.
        image: path or URL of the image that the passage shows.
    """

    id: str
    text: str
    title: str = ""
    score: float | None = None
    image: str | None = None

    @classmethod
    def from_text(cls, text: str, title: str = "") -> "Passage":
        """Return a passage whose id is a hash of its content, so that equal content has equal identity."""
        return cls(id=_digest(text, title), text=text, title=title)

    @property
    def content_id(self) -> str:
        """The id that `from_text` gives its content; with where its image lies, for several may share a caption."""
        digest = _digest(self.text, self.title)
        return digest if self.image is None else f"{digest} {self.image}"


def _digest(text: str, title: str) -> str:
    return hashlib.blake2b(f"{title}\n{text}".encode(), digest_size=10).hexdigest()


@dataclass(frozen=True, slots=True)
class SubQuestion:
    """One hop of a question, with the answers of earlier hops filled in.

    `relation` is what the hop asks for where the source says so (`director` of `X >> director`), else empty.
    `search_queries` are the reference queries of the search-key reward. `golden_passage_id` points into the question's
    `golden_passages`.
    """

    question: str
    answer: str
    search_queries: tuple[str, ...] = ()
    golden_passage_id: str | None = None
    subject: str = ""
    relation: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with everything that rewards and evaluation may know about it, and the policy may not.

    `answers` holds the answer first, then its aliases. `hops` is None where the source does not say.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    sub_questions: tuple[SubQuestion, ...] = ()
    golden_passages: tuple[Passage, ...] = ()
    dataset: str = ""
    hops: int | None = None
    kind: str = ""


class StopReason(StrEnum):
    """Why an episode ended. Every reason is terminal for learning.

    `NO_REPLY` is for a model behind an endpoint that, retries included, did not answer; `ERROR` stands for an episode
    that an evaluation could not play to its end. Training meets neither.
    """

    ANSWERED = "answered"
    END_OF_SEQUENCE = "end_of_sequence"
    NO_VALID_ACTION = "no_valid_action"
    SEARCHES_SPENT = "searches_spent"
    CONTEXT_FULL = "context_full"
    NO_REPLY = "no_reply"
    ERROR = "error"


class FormatError(StrEnum):
    """The first thing wrong with an episode's format, in this order of precedence."""

    NO_ANSWER = "no_answer"
    TEXT_AFTER_ANSWER = "text_after_answer"
    SEVERAL_ANSWERS = "several_answers"
    NO_SEARCH = "no_search"


@dataclass(frozen=True, slots=True)
class SearchStep:
    """One executed search. `end_position` indexes `Trajectory.response_ids`: the last sampled token of the search."""

    query: str
    passages: tuple[Passage, ...]
    end_position: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One finished episode, exact to the token.

    Attributes:
        question: what was asked, with its gold data.
        prompt_ids: token ids before the first sampled token.
        response_ids: [R] every token after the prompt, sampled or observed.
        response_mask: [R] 1 where the policy sampled the token, 0 where the environment wrote it.
        rollout_logprobs: [R] log-probability when sampled, under the temperature-scaled distribution; 0 on observed.
        steps: the executed searches in order.
        answer: text of the last answer, None if there is none.
        format_error: the first thing wrong with the format, None if it is right.
        stop_reason: why the episode ended.
        response_text: `response_ids` as text, for people; nothing is computed from it.
        corrections: how many turns without a valid action were answered with a correction.
    """

    question: Question
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    response_mask: tuple[int, ...]
    rollout_logprobs: tuple[float, ...]
    steps: tuple[SearchStep, ...]
    answer: str | None
    format_error: FormatError | None
    stop_reason: StopReason
    response_text: str = ""
    corrections: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values from which `from_json` rebuilds an equal trajectory."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Trajectory":
        """Return the trajectory that `to_json` wrote."""
        fields = dict(record)
        fields["question"] = question_from_json(fields["question"])
        fields["steps"] = tuple(_step_from_json(step) for step in fields["steps"])
        for name in ("prompt_ids", "response_ids", "response_mask", "rollout_logprobs"):
            fields[name] = tuple(fields[name])
        fields["format_error"] = None if fields["format_error"] is None else FormatError(fields["format_error"])
        fields["stop_reason"] = StopReason(fields["stop_reason"])
        return cls(**fields)


def question_from_json(record: Mapping[str, Any]) -> Question:
    """Return the question whose fields `dataclasses.asdict` wrote."""
    fields = dict(record)
    fields["answers"] = tuple(fields["answers"])
    fields["sub_questions"] = tuple(_sub_question_from_json(sub) for sub in fields["sub_questions"])
    fields["golden_passages"] = tuple(Passage(**passage) for passage in fields["golden_passages"])
    return Question(**fields)


def _sub_question_from_json(record: Mapping[str, Any]) -> SubQuestion:
    fields = dict(record)
    fields["search_queries"] = tuple(fields["search_queries"])
    return SubQuestion(**fields)


def _step_from_json(record: Mapping[str, Any]) -> SearchStep:
    fields = dict(record)
    fields["passages"] = tuple(Passage(**passage) for passage in fields["passages"])
    return SearchStep(**fields)


@dataclass(frozen=True, slots=True)
class StepReward:
    """Reward of one search step. `total` is what training uses: hook result times `step_scale`; 0 for a failed step."""

    total: float
    information_gain: float
    redundancy_penalty: float


@dataclass(frozen=True, slots=True)
class TrajectoryReward:
    """Reward of one episode.

    Attributes:
        outcome: placed on the last sampled token (answer + gamma_key * search key, or the recipe's format penalty).
        answer: best F1 against the gold answers, before any format gate.
        search_key: r_key before gamma_key; None without reference queries.
        steps: one per search step (length S); None when the question has no golden documents, or the recipe drops them.
        golden_recall: share of golden documents retrieved, by id or body; None without golden documents.
    """

    outcome: float
    answer: float
    search_key: float | None
    steps: tuple[StepReward, ...] | None
    golden_recall: float | None = None

    @property
    def total(self) -> float:
        """Outcome plus all step rewards."""
        return self.outcome + sum(step.total for step in self.steps or ())
