"""What an evaluation compares: the model, its baselines, other models; each as a runner of episodes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stepsearch.cli.assembly import settings_to_play
from stepsearch.cli.players import ENDPOINT, SCRIPTED, AnyPlayer, ScriptedPlayer, closing_endpoint, open_player
from stepsearch.config import Config
from stepsearch.errors import ConfigError
from stepsearch.evaluation.baselines import BASELINES
from stepsearch.models.model_folder import load_hf_tokenizer
from stepsearch.rollout import EpisodeRunner

MODEL = "model"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


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
        others[name] = settings_to_play(folder, path, overrides).model_copy(update={"search": config.search})
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
        with closing_endpoint(open_player(config, player.search, replies)) as other:
            yield name, other.runner(temperature)


def method_names(baselines: bool, others: Mapping[str, Config]) -> list[str]:
    """Return the names that `methods` yields."""
    return [MODEL, *(BASELINES if baselines else ()), *others]
