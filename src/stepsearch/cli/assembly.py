"""Builds the parts that commands share from the settings: search, policy, runner."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepsearch.config import Config, SearchSettings, load_config
from stepsearch.data import KnowledgeBase
from stepsearch.evaluation.baselines import Baselines
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.rollout import RolloutRunner
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search import SearchEngine
from stepsearch.search.engines import build_search_engine
from stepsearch.search.guarded_search import GuardedSearch

KNOWLEDGE_BASE = "knowledge_base"
_REMEMBERED = ("model", "search", "rollout", "reward")


def settings_of_model(record: Mapping[str, Any], path: Path | None, overrides: Sequence[str]) -> Config:
    """Return the settings for using a saved model: what it was trained with, below a config file and overrides."""
    remembered = {section: values for section, values in record.items() if section in _REMEMBERED}
    return load_config(path, overrides, base=remembered)


def find_corpus(settings: SearchSettings, data_file: Path | None, engine_asked: bool) -> tuple[SearchSettings, str]:
    """Return the search settings with engine and knowledge base settled, and a line that says what was chosen.

    A knowledge base that `search.knowledge_base` names, or that stands beside the data file, is searched with BM25
    unless an engine was asked for.

    Args:
        settings: as configured.
        data_file: the questions' file; None where there is none.
        engine_asked: whether the user named the engine.

    Raises:
        DataError: the knowledge base that was named is not there.
    """
    beside = None if data_file is None else data_file.parent / KNOWLEDGE_BASE
    folder = Path(settings.knowledge_base) if settings.knowledge_base else beside
    if folder is None or not (settings.knowledge_base or folder.is_dir()):
        return settings, f"search: {settings.engine_type}"
    passages = len(KnowledgeBase.open(folder))
    is_default = settings.engine_type == SearchSettings().engine_type
    engine_type = "bm25" if is_default and not engine_asked else settings.engine_type
    settled = settings.model_copy(update={"engine_type": engine_type, KNOWLEDGE_BASE: str(folder.resolve())})
    whose = "" if settings.knowledge_base else " beside the data file"
    return settled, f"search: {engine_type} over the {passages:,} passages of {folder}{whose}"


def build_search(settings: SearchSettings, engine: SearchEngine | None = None) -> GuardedSearch:
    """Return the guarded search of the settings, or of an engine that was handed over.

    Raises:
        SearchError: the engine is unknown or cannot be built.
    """
    if engine is None:
        engine = build_search_engine(settings, Path(settings.knowledge_base) if settings.knowledge_base else None)
    return GuardedSearch(engine, settings.timeout_seconds, settings.retries, settings.backoff_seconds)


class Player:
    """A policy with the search it plays against; its runners share one engine over the policy's own weights.

    Args:
        policy: whose tokens are sampled.
        search: answers its queries.
        config: budgets and sampling.
    """

    def __init__(self, policy: StepSearchModel, search: GuardedSearch, config: Config) -> None:
        self.policy = policy
        self.search = search
        self.config = config
        self.engine = InProcessEngine(
            policy.causal_lm, policy.tokenizer, slots=config.rollout.slots, max_length=config.model.max_length
        )

    def runner(self, temperature: float) -> RolloutRunner:
        """Return a runner that samples at that temperature.

        Raises:
            ConfigError: the budgets do not fit the context.
        """
        return RolloutRunner(
            self.engine,
            self.policy.tokenizer,
            self.search,
            self.config.rollout.model_copy(update={"temperature": temperature}),
            max_length=self.config.model.max_length,
            max_search_steps=self.config.reward.max_search_steps,
            search_top_k=self.config.search.top_k,
        )

    def baselines(self, temperature: float) -> Baselines:
        """Return the ways of answering that the method is compared with."""
        rollout = self.config.rollout
        return Baselines(
            self.engine,
            self.policy.tokenizer,
            self.search,
            ObservationBuilder(self.policy.tokenizer, rollout.max_observation_tokens, rollout.max_passage_tokens),
            top_k=self.config.search.top_k,
            max_tokens=rollout.max_turn_tokens,
            max_length=self.config.model.max_length,
            temperature=temperature,
        )
