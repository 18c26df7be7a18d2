"""Builds the parts that commands share from the settings: search, policy, runner."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stepsearch.chat_endpoint import ChatEndpoint, EndpointSettings, ReplyCache
from stepsearch.cli.progress import Advance, unseen
from stepsearch.config import Config, RolloutSettings, SearchSettings, Section, load_config
from stepsearch.data import KnowledgeBase
from stepsearch.errors import ConfigError, ModelError
from stepsearch.evaluation.baselines import BASELINES
from stepsearch.evaluation.endpoint_generator import EndpointGenerator
from stepsearch.evaluation.local_generator import LocalGenerator
from stepsearch.evaluation.step_search_text import step_search
from stepsearch.evaluation.text_episode import TextBudget
from stepsearch.evaluation.text_runner import Method, TextRunner
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.model_folder import RECORD, read_record
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tiny import build_tiny_policy
from stepsearch.models.tiny_tokenizer import name_token_groups
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.models.trunk import usable_workers
from stepsearch.preparation.demonstrations import DemonstrationWriter
from stepsearch.rollout import EpisodeRunner, ParallelRunner, RolloutRunner
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search import SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.training.demonstration_batches import DemonstrationEncoder
from stepsearch.training.preflight import check_prompts
from stepsearch.training.warm_start import warm_start
from stepsearch.types import Question

BM25, HYBRID, KNOWLEDGE_BASE = "bm25", "hybrid", "knowledge_base"
_OF_A_KNOWLEDGE_BASE = frozenset({BM25, "dense"})
TINY = "tiny"
ENDPOINT = "openai:"
_REMEMBERED = ("model", "search", "rollout", "reward", "training")
# A model folder may come from anyone: what it says must start no program, and send nothing and no token anywhere.
_FOR_THE_USER_TO_SAY = frozenset({"url", "command", "environment", "token_variable", "cache_dir"})


def settings_of_model(
    model_path: str, path: Path | None, overrides: Sequence[str], knowledge_base: Path | None = None
) -> Config:
    """Return the settings for using a saved model.

    Args:
        model_path: the model; what it was trained with holds unless the user says otherwise.
        path: the user's config file.
        overrides: they win over the file.
        knowledge_base: wins over all.

    Raises:
        ConfigError: a setting of the user's is wrong.
        ModelError: the model remembers settings that there are not.
    """
    config = load_config(path, overrides, base=_remembered_settings(model_path))
    update: dict[str, Section] = {"model": config.model.model_copy(update={"name": model_path})}
    if knowledge_base is not None:
        update["search"] = config.search.model_copy(update={"knowledge_base": str(knowledge_base)})
    return config.model_copy(update=update)


def _remembered_settings(model_path: str) -> Mapping[str, Any]:
    folder = os.path.expanduser(model_path)
    remembered = {section: values for section, values in read_record(folder).items() if section in _REMEMBERED}
    if "search" in remembered:
        remembered["search"] = _harmless(remembered["search"])
    try:
        load_config(base=remembered)
    except ConfigError as error:
        problem = str(error).removeprefix("config: ")
        raise ModelError(
            f"{os.path.join(folder, RECORD)}: {problem}; mend it there, or save the model again with this version"
        ) from None
    return remembered


def _harmless(value: Any) -> Any:
    """Return search settings without those that only the user may set, wherever they stand."""
    if isinstance(value, Mapping):
        return {key: _harmless(inner) for key, inner in value.items() if key not in _FOR_THE_USER_TO_SAY}
    return [_harmless(inner) for inner in value] if isinstance(value, list) else value


def use_threads(config: Config) -> None:
    """Give torch as many CPU threads as the settings say, in all that follows.

    A tiny model is faster with one: with more, they wait for each other, ten times as long where the cores are shared.
    """
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)


def find_corpus(settings: SearchSettings, data_file: Path | None, engine_asked: bool) -> tuple[SearchSettings, str]:
    """Return the search settings with engine and knowledge base settled, and a line that says what was chosen.

    The knowledge base that `search.knowledge_base` names, else the one beside the data file, is searched with BM25
    unless another engine was asked for.

    Args:
        settings: as configured.
        data_file: the questions' file; None where there is none.
        engine_asked: whether the user named the engine.

    Raises:
        DataError: the knowledge base is not there or not whole.
    """
    is_open = settings.engine_type == SearchSettings().engine_type and not engine_asked
    beside = None if data_file is None else data_file.parent / KNOWLEDGE_BASE
    folder = Path(settings.knowledge_base).expanduser() if settings.knowledge_base else None
    if (
        folder is None
        and beside is not None
        and beside.is_dir()
        and (is_open or _OF_A_KNOWLEDGE_BASE & _engine_types(settings))
    ):
        folder = beside
    if folder is None:
        return settings, f"search: {settings.engine_type}"
    engine_type = BM25 if is_open else settings.engine_type
    settled = settings.model_copy(update={"engine_type": engine_type, "knowledge_base": str(folder.resolve())})
    whose = " beside the data file" if folder == beside else ""
    return (
        settled,
        f"search: {engine_type}, knowledge base {folder}{whose} ({len(KnowledgeBase.open(folder)):,} passages)",
    )


def _engine_types(settings: SearchSettings) -> set[str]:
    parts = settings.hybrid_parts() if settings.engine_type == HYBRID else []
    return {settings.engine_type, *(part.engine_type for part in parts)}


def guard(engine: SearchEngine, settings: SearchSettings) -> GuardedSearch:
    """Return an engine with the settings' time limit and retries around it."""
    return GuardedSearch(engine, settings.timeout_seconds, settings.retries, settings.backoff_seconds)


def build_policy(
    config: Config, questions: Sequence[Question], search: SearchEngine, advance: Advance = unseen
) -> StepSearchModel:
    """Return the policy to train: loaded by name, or the embedded tiny one, warm-started on these questions.

    Raises:
        ModelError: the model cannot be loaded.
        TrainingError: the questions yield no demonstrations.
    """
    if config.model.name != TINY:
        return StepSearchModel.load(config.model)
    causal_lm, hf_tokenizer = build_tiny_policy(config.seed)
    style = "question" if config.model.prompt == "auto" else config.model.prompt
    tokenizer = ModelTokenizer(hf_tokenizer, style)
    check_prompts(questions, tokenizer, config)
    warm_start(
        causal_lm,
        questions,
        DemonstrationWriter(
            guard(search, config.search), top_k=config.search.top_k, max_searches=config.reward.max_search_steps
        ),
        DemonstrationEncoder(tokenizer, observation_builder(tokenizer, config.rollout), config.model.max_length),
        config.warm_start,
        seed=config.seed,
        exchangeable=name_token_groups(hf_tokenizer),
        workers=usable_workers(config.training, causal_lm.device),
        on_update=lambda update: advance(1 / update.updates, f"loss {update.loss:.2f}"),
    )
    return StepSearchModel(causal_lm, tokenizer)


def observation_builder(tokenizer: ModelTokenizer, settings: RolloutSettings) -> ObservationBuilder:
    """Return what writes search results within the settings' budgets."""
    return ObservationBuilder(tokenizer, settings.max_observation_tokens, settings.max_passage_tokens)


class Player:
    """A policy with the search it plays against; its runners share engines over its own weights, one per worker.

    Args:
        policy: whose tokens are sampled.
        search: answers its queries.
        config: budgets and sampling.
    """

    def __init__(self, policy: StepSearchModel, search: GuardedSearch, config: Config) -> None:
        self.policy = policy
        self.search = search
        self.config = config
        workers = usable_workers(config.training, policy.causal_lm.device)
        self.engines = [
            InProcessEngine(
                policy.causal_lm,
                policy.tokenizer,
                slots=-(-config.rollout.slots // workers),
                max_length=config.model.max_length,
            )
            for _ in range(workers)
        ]
        self._observations = observation_builder(policy.tokenizer, config.rollout)

    def runner(self, temperature: float) -> EpisodeRunner:
        """Return a runner that samples at that temperature, with as many engines as there are workers.

        Raises:
            ConfigError: the budgets do not fit the context.
        """
        runners = [self._runner(engine, temperature) for engine in self.engines]
        return runners[0] if len(runners) == 1 else ParallelRunner(runners)

    def watched_runner(self, temperature: float) -> RolloutRunner:
        """Return a runner that tells of what happens while it happens."""
        return self._runner(self.engines[0], temperature)

    def _runner(self, engine: InProcessEngine, temperature: float) -> RolloutRunner:
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

    def check_prompts(self, questions: Sequence[Question]) -> None:
        """Refuse questions whose prompts do not fit the context.

        Raises:
            ConfigError: one does not.
        """
        check_prompts(questions, self.policy.tokenizer, self.config)

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

    def check_prompts(self, questions: Sequence[Question]) -> None:
        """Refuse nothing: how many tokens a prompt has is known to the endpoint alone."""

    def _runner(self, method: Method, temperature: float) -> EpisodeRunner:
        generator = EndpointGenerator(self.endpoint, self.config.model.max_length, temperature)
        return TextRunner(method, generator, self.search, text_budget(self.config))


def open_player(config: Config, search: GuardedSearch, replies: Path | None = None) -> Player | EndpointPlayer:
    """Return what plays the model that `model.name` names: `openai:MODEL` at `OPENAI_BASE_URL`, a folder or hub name.

    Args:
        config: the settings.
        search: answers the model's queries.
        replies: file that keeps an endpoint's replies, so that none is paid for twice; default: for this run only.

    Raises:
        ModelError: the model cannot be loaded.
        EndpointError: the endpoint cannot be asked.
        ConfigError: the settings ask for sampling that an endpoint is not told of.
    """
    if not config.model.name.startswith(ENDPOINT):
        return Player(StepSearchModel.load(config.model), search, config)
    settings = EndpointSettings(model=config.model.name.removeprefix(ENDPOINT))
    return EndpointPlayer(ChatEndpoint(settings, ReplyCache(replies)), search, config)


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
