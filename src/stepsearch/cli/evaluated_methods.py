"""What an evaluation compares: the model, its baselines, other models; each as a runner of episodes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stepsearch.cli import assembly
from stepsearch.cli.assembly import ENDPOINT, EndpointPlayer, Player, settings_of_model, use_threads
from stepsearch.config import Config
from stepsearch.errors import ConfigError
from stepsearch.evaluation.baselines import BASELINES
from stepsearch.evaluation.scripted import NoSearchPolicy, ReferencePolicy
from stepsearch.models.model_folder import load_hf_tokenizer
from stepsearch.rollout import EpisodeRunner
from stepsearch.search import GuardedSearch

MODEL = "model"
REFERENCE, NO_SEARCH = "scripted:reference", "scripted:no-search"
SCRIPTED = (REFERENCE, NO_SEARCH)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


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


def open_player(config: Config, search: GuardedSearch, replies: Path) -> AnyPlayer:
    """Return what plays the model that the settings name.

    Args:
        config: the settings.
        search: answers the model's queries.
        replies: file that keeps an endpoint's replies.

    Raises:
        ModelError: it cannot be loaded.
        EndpointError: it cannot be asked.
        ConfigError: the settings ask for sampling that an endpoint is not told of.
    """
    if config.model.name in SCRIPTED:
        return ScriptedPlayer(config.model.name, search, config)
    use_threads(config)
    return assembly.open_player(config, search, replies)


def read_other_models(
    named: Sequence[str], path: Path | None, overrides: Sequence[str], config: Config
) -> dict[str, Config]:
    """Return the settings of other models to compare with, by name.

    Budgets and prompt are a model's own; corpus, retriever and seed are those of the evaluation.

    Args:
        named: each `NAME=DIR`, as the user wrote it.
        path: the user's config file.
        overrides: as for the model under evaluation.
        config: of the evaluation.

    Raises:
        ConfigError: a name is missing, taken or of other characters than a file's name may have.
        ModelError: a model is not there.
    """
    others: dict[str, Config] = {}
    for entry in named:
        name, equals, folder = entry.partition("=")
        if not equals or not folder or not _NAME.fullmatch(name):
            raise ConfigError(f"--compare-model {entry}: write NAME=DIR, the name of letters, digits, '_', '-' and '.'")
        if name in (MODEL, *BASELINES, *others):
            raise ConfigError(f"--compare-model {entry}: the name {name} is taken, choose another")
        if folder not in SCRIPTED and not folder.startswith(ENDPOINT):
            load_hf_tokenizer(folder)
        others[name] = settings_of_model(folder, path, overrides).model_copy(update={"search": config.search})
    return others


def methods(
    player: AnyPlayer, baselines: bool, others: Mapping[str, Config], replies: Path
) -> Iterator[tuple[str, EpisodeRunner]]:
    """Yield name and runner of each method, the model first; another model is loaded when its turn comes."""
    temperature = player.config.evaluation.temperature
    yield MODEL, player.runner(temperature)
    if baselines and not isinstance(player, ScriptedPlayer):
        for name in BASELINES:
            yield name, player.baseline_runner(name, temperature)
    for name, config in others.items():
        yield name, open_player(config, player.search, replies).runner(temperature)


def method_names(baselines: bool, others: Mapping[str, Config]) -> list[str]:
    """Return the names that `methods` yields."""
    return [MODEL, *(BASELINES if baselines else ()), *others]
