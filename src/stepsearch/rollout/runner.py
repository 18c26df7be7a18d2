"""Many episodes in flight: generation, parsing and batched search, overlapping and yet deterministic.

The search runs in one worker thread while the engine goes on. Its result is admitted a fixed number of engine steps
after it was asked for, however fast it came, so that no timing decides which tokens are computed together.
"""

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, Protocol

from stepsearch.config import RolloutSettings
from stepsearch.errors import DataError
from stepsearch.rollout.budget import EpisodeBudget, longest_prompt
from stepsearch.rollout.episode import EnvironmentText, Episode
from stepsearch.rollout.generation import EpisodeTokenizer, GenerationEngine, Sampling, Segment
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search.guarded_search import GuardedSearch, SearchOutcome
from stepsearch.types import Passage, Question, Trajectory


@dataclass(frozen=True, slots=True)
class EpisodeEvent:
    """Something that happened to the episode at `index` of a run, for whoever shows it.

    Attributes:
        index: which question of the run.
        kind: "turn" (with `text`), "documents" (with `passages`), or "finished" (with `trajectory`).
    """

    index: int
    kind: Literal["turn", "documents", "finished"]
    text: str = ""
    passages: tuple[Passage, ...] = ()
    trajectory: Trajectory | None = None


@dataclass(frozen=True, slots=True)
class _PendingSearch:
    """Queries of the episodes that finished a turn together, due at an engine step."""

    due: int
    indices: list[int]
    result: "Future[list[SearchOutcome]]"


class EpisodeRunner(Protocol):
    """Plays episodes to their end."""

    def run(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Trajectory]:
        """Return one trajectory per question, in their order; `seeds` decide the sampling noise, one each."""
        ...


class RolloutRunner:
    """Plays episodes of a policy against a search.

    Args:
        engine: samples tokens.
        tokenizer: the policy's.
        search: answers queries; never raises for an engine's fault.
        settings: sampling and budgets.
        max_length: tokens an episode may have, prompt included.
        max_search_steps: searches an episode may issue.
        search_top_k: documents per query.
        observations: writes search results within the budgets of `settings`; default: one of the runner's own.

    Raises:
        ConfigError: the budgets cannot fit `max_length`, or an observation's budget cannot hold its tags.
    """

    def __init__(
        self,
        engine: GenerationEngine,
        tokenizer: EpisodeTokenizer,
        search: GuardedSearch,
        settings: RolloutSettings,
        *,
        max_length: int,
        max_search_steps: int,
        search_top_k: int,
        observations: ObservationBuilder | None = None,
    ) -> None:
        longest_prompt(max_length, settings)
        self._engine = engine
        self._tokenizer = tokenizer
        self._search = search
        self._settings = settings
        self._top_k = search_top_k
        self._budget = EpisodeBudget(max_length, settings.max_turn_tokens, max_search_steps, settings.max_corrections)
        self._environment = EnvironmentText.encode(tokenizer)
        self._observations = observations or ObservationBuilder(
            tokenizer, settings.max_observation_tokens, settings.max_passage_tokens
        )

    def run(
        self,
        questions: Sequence[Question],
        seeds: Sequence[int],
        on_event: Callable[[EpisodeEvent], None] | None = None,
    ) -> list[Trajectory]:
        """Return one trajectory per question, in their order.

        Args:
            questions: what to ask; the same question may stand several times.
            seeds: one per question: sampling noise is a function of it and the token's position.
            on_event: called as things happen, from the calling thread.

        Raises:
            DataError: a question's prompt does not fit the context.
            ValueError: there are not as many seeds as questions.
        """
        if len(seeds) != len(questions):
            raise ValueError(f"{len(questions)} questions came with {len(seeds)} seeds")
        flight = _Flight(self._start(questions), seeds, self._settings, on_event or _ignore)
        with ThreadPoolExecutor(1, thread_name_prefix="search") as worker:
            try:
                self._play(flight, worker)
            finally:
                worker.shutdown(wait=False, cancel_futures=True)
                for index in flight.held:
                    self._engine.release(index)
        return [episode.trajectory for episode in flight.episodes if episode.trajectory is not None]

    def _start(self, questions: Sequence[Question]) -> list[Episode]:
        texts = list({question.question: None for question in questions})
        prompts = dict(zip(texts, self._tokenizer.encode_prompts(texts), strict=True))
        for question in questions:
            if not self._budget.fits(len(prompts[question.question])):
                raise DataError(
                    f"question {question.id or question.question[:60]!r}: its prompt of "
                    f"{len(prompts[question.question])} tokens does not fit model.max_length="
                    f"{self._budget.max_length}; shorten the question or raise model.max_length"
                )
        return [
            Episode(question, prompts[question.question], self._tokenizer, self._environment, self._budget)
            for question in questions
        ]

    def _play(self, flight: "_Flight", worker: ThreadPoolExecutor) -> None:
        for index in range(len(flight.episodes)):
            self._continue(flight, index)
        pending: deque[_PendingSearch] = deque()
        for step in itertools.count():
            while pending and (pending[0].due <= step or not self._engine.active):
                self._admit(flight, pending.popleft())
            if not self._engine.active:
                return
            asking = self._take_turns(flight, self._engine.step())
            if asking:
                queries = [flight.episodes[index].query or "" for index in asking]
                result = worker.submit(self._search.search_batch, queries, self._top_k)
                pending.append(_PendingSearch(step + 1 + self._settings.search_window, asking, result))

    def _take_turns(self, flight: "_Flight", segments: Sequence[Segment]) -> list[int]:
        """Hand finished segments to their episodes; return those that want documents."""
        asking: list[int] = []
        for segment in segments:
            index = segment.request_id
            text = flight.episodes[index].take_turn(segment)
            flight.on_event(EpisodeEvent(index, "turn", text=text))
            if flight.episodes[index].query is not None:
                asking.append(index)
            else:
                self._continue(flight, index)
        return asking

    def _admit(self, flight: "_Flight", search: _PendingSearch) -> None:
        """Hand search results to the episodes that asked, in the order of asking."""
        outcomes = search.result.result()
        observations = self._observations.build(outcomes)
        for index, outcome, observation in zip(search.indices, outcomes, observations, strict=True):
            flight.episodes[index].take_documents(outcome.passages, outcome.failed, observation)
            flight.on_event(EpisodeEvent(index, "documents", passages=outcome.passages))
            self._continue(flight, index)

    def _continue(self, flight: "_Flight", index: int) -> None:
        """Sample the episode's next turn, or let it go if it is over."""
        episode = flight.episodes[index]
        if episode.trajectory is None:
            flight.held.add(index)
            self._engine.submit(index, episode.context_ids, flight.sampling(index))
        else:
            flight.held.discard(index)
            self._engine.release(index)
            flight.on_event(EpisodeEvent(index, "finished", trajectory=episode.trajectory))


@dataclass(frozen=True, slots=True)
class _Flight:
    """One run's episodes, with the ids of those that the engine holds."""

    episodes: list[Episode]
    seeds: Sequence[int]
    settings: RolloutSettings
    on_event: Callable[[EpisodeEvent], None]
    held: set[int] = field(default_factory=set[int])

    def sampling(self, index: int) -> Sampling:
        """Return how the episode's next turn is to be sampled."""
        return Sampling(
            max_tokens=self.episodes[index].turn_tokens,
            seed=self.seeds[index],
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            top_k=self.settings.top_k,
        )


def _ignore(_: EpisodeEvent) -> None:
    """Nobody watches."""
