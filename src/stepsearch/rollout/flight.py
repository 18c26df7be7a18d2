"""Many episodes in flight: generation, parsing and batched search, overlapping.

The search runs in one worker thread while the engine goes on. For a rollout its result is admitted a fixed number of
engine steps after it was asked for, however fast it came, so that no timing decides which tokens are computed together.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Literal

from stepsearch.config import RolloutSettings
from stepsearch.rollout.episode import Episode
from stepsearch.rollout.generation import GenerationEngine, Sampling, Segment
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search.guarded_search import GuardedSearch, SearchOutcome
from stepsearch.types import Passage, Trajectory

# Who plays whatever comes looks for it again after so long.
_WAIT_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class EpisodeEvent:
    """Something that happened to the episode at `index`, for whoever shows it.

    Attributes:
        index: of the episode.
        kind: "turn" (with `text`), "documents" (with `passages`), or "finished" (with `trajectory`).
    """

    index: int
    kind: Literal["turn", "documents", "finished"]
    text: str = ""
    passages: tuple[Passage, ...] = ()
    trajectory: Trajectory | None = None


OnEvent = Callable[[EpisodeEvent], None]


@dataclass(frozen=True, slots=True)
class EpisodeParts:
    """What episodes are played with.

    Attributes:
        engine: samples tokens.
        search: answers queries; never raises for an engine's fault.
        top_k: documents per query.
        observations: writes search results.
        settings: sampling, and the window in which a search is not waited for.
    """

    engine: GenerationEngine
    search: GuardedSearch
    top_k: int
    observations: ObservationBuilder
    settings: RolloutSettings


@dataclass(frozen=True, slots=True)
class _Playing:
    """An episode, and how it is sampled."""

    episode: Episode
    seed: int
    temperature: float


@dataclass(frozen=True, slots=True)
class _PendingSearch:
    """Queries of the episodes that finished a turn together, due at an engine step."""

    due: int
    indices: list[int]
    result: "Future[list[SearchOutcome]]"


class Flight:
    """Episodes that are being played; a context manager, which lets go of the unfinished ones at its end.

    Args:
        parts: what they are played with; its engine is used by one flight at a time.
        on_event: called as things happen, from the thread that advances.
        is_ordered: whether search results are admitted after a fixed number of engine steps, so that equal episodes
            begun in equal order are computed alike; else as they come.
    """

    def __init__(self, parts: EpisodeParts, on_event: OnEvent, *, is_ordered: bool) -> None:
        self._parts = parts
        self._on_event = on_event
        self._is_ordered = is_ordered
        self._playing: dict[int, _Playing] = {}
        self._pending: deque[_PendingSearch] = deque()
        self._step = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="search")

    def __enter__(self) -> "Flight":
        return self

    def __exit__(self, *_: object) -> None:
        for index in list(self._playing):
            self.drop(index)
        self._worker.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        """Return how many episodes are not over."""
        return len(self._playing)

    def begin(self, index: int, episode: Episode, seed: int, temperature: float | None = None) -> None:
        """Play an episode.

        Args:
            index: names it in events; no other episode has it.
            episode: nothing of it has been played.
            seed: sampling noise is a function of it and the token's position.
            temperature: default: that of the settings.
        """
        chosen = self._parts.settings.temperature if temperature is None else temperature
        self._playing[index] = _Playing(episode, seed, chosen)
        self._continue(index)

    def drop(self, index: int) -> None:
        """Play an episode no further, if it is not over."""
        if self._playing.pop(index, None) is not None:
            self._parts.engine.release(index)

    def advance(self) -> bool:
        """Admit the search results that are due, and let the engine take a step if it has anything to sample.

        Returns:
            Whether anything is being sampled or searched.
        """
        engine = self._parts.engine
        while self._pending and self._is_due(self._pending[0]):
            self._admit(self._pending.popleft())
        if not engine.active:
            return bool(self._pending)
        asking = self._take_turns(engine.step())
        if asking:
            queries = [self._playing[index].episode.query or "" for index in asking]
            result = self._worker.submit(self._parts.search.search_batch, queries, self._parts.top_k)
            due = self._step + 1 + self._parts.settings.search_window
            self._pending.append(_PendingSearch(due, asking, result))
        self._step += 1
        return bool(engine.active or self._pending)

    def _is_due(self, search: _PendingSearch) -> bool:
        if self._is_ordered:
            return search.due <= self._step or not self._parts.engine.active
        wait([search.result], timeout=0 if self._parts.engine.active else _WAIT_SECONDS)
        return search.result.done()

    def _take_turns(self, segments: Sequence[Segment]) -> list[int]:
        """Hand finished segments to their episodes; return those that want documents."""
        asking: list[int] = []
        for segment in segments:
            index = segment.request_id
            episode = self._playing[index].episode
            self._on_event(EpisodeEvent(index, "turn", text=episode.take_turn(segment)))
            if episode.query is not None:
                asking.append(index)
            else:
                self._continue(index)
        return asking

    def _admit(self, search: _PendingSearch) -> None:
        """Hand search results to the episodes that asked and are still there, in the order of asking."""
        outcomes = search.result.result()
        observations = self._parts.observations.build(outcomes)
        for index, outcome, observation in zip(search.indices, outcomes, observations, strict=True):
            if index in self._playing:
                self._playing[index].episode.take_documents(outcome.passages, outcome.failed, observation)
                self._on_event(EpisodeEvent(index, "documents", passages=outcome.passages))
                self._continue(index)

    def _continue(self, index: int) -> None:
        """Sample the episode's next turn, or let it go if it is over."""
        playing = self._playing[index]
        if playing.episode.trajectory is None:
            settings = self._parts.settings
            sampling = Sampling(
                playing.episode.turn_tokens, playing.seed, playing.temperature, settings.top_p, settings.top_k
            )
            self._parts.engine.submit(index, playing.episode.context_ids, sampling)
        else:
            self.drop(index)
            self._on_event(EpisodeEvent(index, "finished", trajectory=playing.episode.trajectory))
