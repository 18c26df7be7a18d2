"""What plays episodes of a model: one of this process, one behind an endpoint, or a script without any."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from stepsearch.chat_endpoint import ChatEndpoint, EndpointSettings, ReplyCache
from stepsearch.config import Config, RolloutSettings
from stepsearch.errors import ConfigError
from stepsearch.evaluation.baselines import BASELINES
from stepsearch.evaluation.endpoint_generator import EndpointGenerator
from stepsearch.evaluation.local_generator import LocalGenerator
from stepsearch.evaluation.scripted import NoSearchPolicy, ReferencePolicy
from stepsearch.evaluation.step_search_text import step_search
from stepsearch.evaluation.text_episode import TextBudget
from stepsearch.evaluation.text_runner import Method, TextRunner
from stepsearch.models.engines import build_engines
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.rollout import EpisodeRunner, GenerationEngine, ParallelRunner, RolloutRunner, SyncedRunner
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search import GuardedSearch

ENDPOINT = "openai:"
REFERENCE, NO_SEARCH = "scripted:reference", "scripted:no-search"
SCRIPTED = (REFERENCE, NO_SEARCH)


def use_threads(config: Config) -> None:
    """Give torch as many CPU threads as the settings say, in all that follows.

    A tiny model is faster with one: with more, they wait for each other, ten times as long where the cores are shared.
    """
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)


def observation_builder(tokenizer: ModelTokenizer, settings: RolloutSettings) -> ObservationBuilder:
    """Return what writes search results within the settings' budgets."""
    return ObservationBuilder(tokenizer, settings.max_observation_tokens, settings.max_passage_tokens)


class Player:
    """A policy with the search it plays against; its runners share the engines that `rollout.engine` names.

    Args:
        policy: whose tokens are sampled.
        search: answers its queries.
        config: engine, budgets and sampling.
        learns: whether the policy's weights change while it plays.

    Raises:
        ConfigError: the engine is not installed.
        ModelError: the engine cannot sample from the policy.
    """

    def __init__(self, policy: StepSearchModel, search: GuardedSearch, config: Config, learns: bool = False) -> None:
        self.policy = policy
        self.search = search
        self.config = config
        self.engines, self._sync = build_engines(policy, config, learns)
        self._observations = observation_builder(policy.tokenizer, config.rollout)

    def runner(self, temperature: float) -> EpisodeRunner:
        """Return a runner that samples at that temperature, with as many engines as there are workers.

        Raises:
            ConfigError: the budgets do not fit the context.
        """
        runners = [self._runner(engine, temperature) for engine in self.engines]
        runner = runners[0] if len(runners) == 1 else ParallelRunner(runners)
        return runner if self._sync is None else SyncedRunner(runner, self._sync)

    def watched_runner(self, temperature: float) -> RolloutRunner:
        """Return a runner that tells of what happens while it happens."""
        return self._runner(self.engines[0], temperature)

    def _runner(self, engine: GenerationEngine, temperature: float) -> RolloutRunner:
        return RolloutRunner(
            engine,
            self.policy.tokenizer,
            self.search,
            self.config.rollout.model_copy(update={"temperature": temperature}),
            max_length=self.config.model.max_length,
            max_search_steps=self.config.reward.max_search_steps,
            search_top_k=self.config.search.top_k,
            observations=self._observations,
        )

    def baseline_runner(self, name: str, temperature: float) -> EpisodeRunner:
        """Return a runner that answers in the way of `BASELINES[name]`, with the same model, search and budgets."""
        rollout, budget = self.config.rollout, text_budget(self.config)
        sampling = (self.config.model.max_length, temperature, rollout.top_p, rollout.top_k)
        runners = [
            TextRunner(BASELINES[name], LocalGenerator(engine, self.policy.tokenizer, *sampling), self.search, budget)
            for engine in self.engines
        ]
        return runners[0] if len(runners) == 1 else ParallelRunner(runners)


class EndpointPlayer:
    """A chat model behind an endpoint with the search it plays against; what it said is known as text alone.

    Args:
        endpoint: answers for the model.
        search: answers its queries.
        config: budgets and sampling; tokens are counted at four characters each.

    Raises:
        ConfigError: the settings ask for sampling that the endpoint is not told of.
    """

    def __init__(self, endpoint: ChatEndpoint, search: GuardedSearch, config: Config) -> None:
        if config.rollout.top_p < 1 or config.rollout.top_k:
            raise ConfigError("rollout.top_p and rollout.top_k are not for a model behind an endpoint: leave them out")
        self.endpoint = endpoint
        self.search = search
        self.config = config

    def runner(self, temperature: float) -> EpisodeRunner:
        """Return a runner of the StepSearch loop that samples at that temperature."""
        return self._runner(step_search, temperature)

    def baseline_runner(self, name: str, temperature: float) -> EpisodeRunner:
        """Return a runner that answers in the way of `BASELINES[name]`, with the same model, search and budgets."""
        return self._runner(BASELINES[name], temperature)

    def _runner(self, method: Method, temperature: float) -> EpisodeRunner:
        generator = EndpointGenerator(self.endpoint, self.config.model.max_length, temperature)
        return TextRunner(method, generator, self.search, text_budget(self.config))


@dataclass(frozen=True, slots=True)
class ScriptedPlayer:
    """A policy without a model, with the search it plays against."""

    name: str
    search: GuardedSearch
    config: Config

    def runner(self, temperature: float) -> EpisodeRunner:
        """Return its runner; it has no temperature."""
        if self.name == NO_SEARCH:
            return NoSearchPolicy()
        return ReferencePolicy(self.search, self.config.search.top_k, self.config.reward.max_search_steps)


AnyPlayer = Player | EndpointPlayer | ScriptedPlayer


@contextmanager
def closing_endpoint(player: AnyPlayer) -> Generator[AnyPlayer]:
    """Let a player play while the block runs; then its endpoint, if it has one, is let go of."""
    try:
        yield player
    finally:
        if isinstance(player, EndpointPlayer):
            player.endpoint.close()


def open_player(config: Config, search: GuardedSearch, replies: Path | None = None) -> AnyPlayer:
    """Return what plays the model that `model.name` names.

    It is `openai:MODEL` at `OPENAI_BASE_URL`, one of `SCRIPTED`, a folder or a hub name.

    Args:
        config: the settings.
        search: answers the model's queries.
        replies: file that keeps an endpoint's replies, so that none is paid for twice; default: for this run only.

    Raises:
        ModelError: the model cannot be loaded.
        EndpointError: the endpoint cannot be asked.
        ConfigError: no model is named, or the settings ask for sampling that an endpoint is not told of.
    """
    if config.model.name in SCRIPTED:
        return ScriptedPlayer(config.model.name, search, config)
    if config.model.name.startswith("scripted:"):
        raise ConfigError(f"there is no {config.model.name}: choose one of {', '.join(SCRIPTED)}")
    if config.model.name.startswith(ENDPOINT):
        name = config.model.name.removeprefix(ENDPOINT)
        if not name:
            raise ConfigError(f"{ENDPOINT} names no model: write {ENDPOINT}MODEL, as the endpoint calls it")
        return EndpointPlayer(ChatEndpoint(EndpointSettings(model=name), ReplyCache(replies)), search, config)
    use_threads(config)
    return Player(StepSearchModel.load(config.model), search, config)


def text_budget(config: Config) -> TextBudget:
    """Return what an episode of text may use by the settings."""
    return TextBudget(
        max_turn_tokens=config.rollout.max_turn_tokens,
        max_observation_tokens=config.rollout.max_observation_tokens,
        max_passage_tokens=config.rollout.max_passage_tokens,
        max_searches=config.reward.max_search_steps,
        max_corrections=config.rollout.max_corrections,
        top_k=config.search.top_k,
    )
