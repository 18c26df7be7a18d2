"""Episodes whose lengths are drawn beforehand: a policy with random weights then does the same work on every side.

A policy that has learned nothing never closes a tag, so its turns would all end at the budget. Here each turn ends at
a drawn length instead, what was searched for is drawn too, and the rest is the real thing: the engine samples, the
search finds, and the recorder writes a trajectory that rewards and training read like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.rollout.generation import Sampling, Segment
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.rollout.recorder import EpisodeRecorder
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Passage, Question, StopReason, SubQuestion, Trajectory

SEARCH, ANSWER = "<search> what was drawn </search>", "<answer> an answer </answer>"
QUERY_WORDS = 4
GOLDEN, KEYS = 3, 3


@dataclass(frozen=True, slots=True)
class Workload:
    """What each of B episodes reads and how much it samples.

    Attributes:
        prompts: [B] token ids; episodes of one question share theirs.
        turn_tokens: [B, turns] tokens sampled in each turn.
        observations: [B, turns - 1] token ids read after each turn but the last.
    """

    prompts: list[list[int]]
    turn_tokens: list[list[int]]
    observations: list[list[list[int]]]

    @classmethod
    def draw(
        cls,
        draw: np.random.Generator,
        episodes: int,
        group: int,
        *,
        turns: int,
        prompt: tuple[int, int],
        turn: tuple[int, int],
        observation: tuple[int, int],
        vocabulary: int,
    ) -> "Workload":
        """Return episodes in groups that share a prompt; lengths are uniform between two bounds, both included."""

        def ids(bounds: tuple[int, int]) -> list[int]:
            return draw.integers(2, vocabulary, size=draw.integers(*bounds, endpoint=True)).tolist()

        prompts = [ids(prompt) for _ in range(episodes // group)]
        return cls(
            prompts=[prompts[index // group] for index in range(episodes)],
            turn_tokens=draw.integers(*turn, endpoint=True, size=(episodes, turns)).tolist(),
            observations=[[ids(observation) for _ in range(turns - 1)] for _ in range(episodes)],
        )

    @property
    def sampled_tokens(self) -> int:
        """Tokens that are sampled, and trained on."""
        return sum(map(sum, self.turn_tokens))

    @property
    def tokens(self) -> int:
        """All tokens, prompts and observations included."""
        read = sum(map(len, self.prompts)) + sum(len(ids) for parts in self.observations for ids in parts)
        return self.sampled_tokens + read


@dataclass(slots=True)
class Texts:
    """Draws passages, queries and questions of words that are one token each; word r has a probability like 1 / r."""

    draw: np.random.Generator
    words: list[str]
    weights: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        weights = 1 / np.arange(1, len(self.words) + 1)
        self.weights = weights / weights.sum()

    @classmethod
    def of(cls, tokenizer: ModelTokenizer, draw: np.random.Generator) -> "Texts":
        """Return texts of the tokenizer's whole words."""
        return cls(draw, [piece[1:] for piece in tokenizer.token_pieces() if piece[:1] == " " and piece[1:].isalpha()])

    def text(self, words: int) -> str:
        """Return a text of so many words."""
        return " ".join(self.words[index] for index in self.draw.choice(len(self.words), words, p=self.weights))

    def passages(self, count: int, words: int) -> list[Passage]:
        """Return passages of so many words each."""
        return [Passage(id=f"{self.draw.integers(2**62)}", text=self.text(words)) for _ in range(count)]

    def question(self, number: int, words: int) -> Question:
        """Return a question with golden passages of so many words each, and reference queries."""
        subs = tuple(SubQuestion("", "", search_queries=(self.text(QUERY_WORDS),)) for _ in range(KEYS))
        golden = tuple(self.passages(GOLDEN, words))
        return Question(f"q{number}", self.text(8), ("the answer",), sub_questions=subs, golden_passages=golden)


@dataclass(slots=True)
class _Playing:
    """One episode while it is played: `turn` counts whole turns, and `ids` belong to the one that is sampled."""

    recorder: EpisodeRecorder
    turn_tokens: list[int]
    turn: int = 0
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def take(self, segment: Segment) -> None:
        """Record a turn once it is as long as drawn: the engine may end it earlier, at a tag sampled by chance."""
        self.ids += segment.token_ids
        self.logprobs += segment.logprobs
        if len(self.ids) == self.turn_tokens[self.turn]:
            self.turn += 1
            self.recorder.sampled(self.ids, self.logprobs, ANSWER if self.is_over else SEARCH)
            self.ids, self.logprobs = [], []

    @property
    def is_over(self) -> bool:
        return self.turn == len(self.turn_tokens)

    @property
    def wants_documents(self) -> bool:
        return not self.ids and not self.is_over


class DrawnRunner:
    """Stands where a `RolloutRunner` stands, and plays drawn episodes.

    Args:
        engine: samples.
        workload: how much.
        search: is asked after every turn but the last.
        observations: turns what was found into tokens, which are cut or filled up to the drawn length.
        queries: [B, turns - 1] what is asked.
        top_k: documents per query.
    """

    def __init__(
        self,
        engine: InProcessEngine,
        workload: Workload,
        search: GuardedSearch,
        observations: ObservationBuilder,
        queries: list[list[str]],
        top_k: int,
    ) -> None:
        self._engine, self._workload, self._search = engine, workload, search
        self._observations, self._queries, self._top_k = observations, queries, top_k

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        """Return one trajectory per question."""
        rows = zip(questions, self._workload.prompts, self._workload.turn_tokens, strict=True)
        episodes = [_Playing(EpisodeRecorder(question, prompt), turns) for question, prompt, turns in rows]
        for index, episode in enumerate(episodes):
            self._go_on(index, episode, seeds[index])
        while self._engine.active:
            finished = [segment.request_id for segment in self._take_turns(episodes)]
            self._give_documents(episodes, [index for index in finished if episodes[index].wants_documents])
            for index in finished:
                self._go_on(index, episodes[index], seeds[index])
        return [episode.recorder.trajectory(StopReason.ANSWERED, "an answer", "") for episode in episodes]

    def _take_turns(self, episodes: list[_Playing]) -> list[Segment]:
        segments = self._engine.step()
        for segment in segments:
            episodes[segment.request_id].take(segment)
        return segments

    def _give_documents(self, episodes: list[_Playing], asking: list[int]) -> None:
        """Search for the episodes that ended a turn together."""
        queries = [self._queries[index][episodes[index].turn - 1] for index in asking]
        outcomes = self._search.search_batch(queries, self._top_k)
        built = self._observations.build(outcomes)
        for index, query, outcome, observation in zip(asking, queries, outcomes, built, strict=True):
            drawn = self._workload.observations[index][episodes[index].turn - 1]
            episodes[index].recorder.searched(query, outcome.passages, outcome.failed)
            episodes[index].recorder.observed([*observation, *drawn][: len(drawn)])

    def _go_on(self, index: int, episode: _Playing, seed: int) -> None:
        if episode.is_over:
            self._engine.release(index)
            return
        missing = episode.turn_tokens[episode.turn] - len(episode.ids)
        self._engine.submit(index, [*episode.recorder.context_ids, *episode.ids], Sampling(missing, seed=seed))
