"""A rollout: questions to trajectories, the same ones however fast the search is."""

from collections.abc import Sequence
from typing import Protocol

from stepsearch.config import RolloutSettings
from stepsearch.errors import DataError
from stepsearch.rollout.budget import EpisodeBudget, longest_prompt
from stepsearch.rollout.episode import EnvironmentText, Episode
from stepsearch.rollout.flight import EpisodeEvent, EpisodeParts, Flight, OnEvent
from stepsearch.rollout.generation import EpisodeTokenizer, GenerationEngine
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Question, Trajectory


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
        self._tokenizer = tokenizer
        self._budget = EpisodeBudget(max_length, settings.max_turn_tokens, max_search_steps, settings.max_corrections)
        self._environment = EnvironmentText.encode(tokenizer)
        observations = observations or ObservationBuilder(
            tokenizer, settings.max_observation_tokens, settings.max_passage_tokens
        )
        self._parts = EpisodeParts(engine, search, search_top_k, observations, settings)

    def run(
        self, questions: Sequence[Question], seeds: Sequence[int], on_event: OnEvent | None = None
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
        episodes = self.episodes(questions)
        with Flight(self._parts, on_event or _ignore, is_ordered=True) as flight:
            for index, (episode, seed) in enumerate(zip(episodes, seeds, strict=True)):
                flight.begin(index, episode, seed)
            while flight.advance():
                pass
        return [episode.trajectory for episode in episodes if episode.trajectory is not None]

    def open(self, on_event: OnEvent) -> Flight:
        """Return a flight without episodes, for those that come as they please; no rollout may be run meanwhile."""
        return Flight(self._parts, on_event, is_ordered=False)

    def episodes(self, questions: Sequence[Question]) -> list[Episode]:
        """Return an episode of each question, before its first turn.

        Raises:
            DataError: a question's prompt does not fit the context.
        """
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


def _ignore(_: EpisodeEvent) -> None:
    """Nobody watches."""
