"""A trained model with the search that it was trained with, ready to be asked."""

import argparse
from pathlib import Path

from rich.console import Console

from stepsearch.cli.assembly import settings_to_play
from stepsearch.cli.players import Player, use_threads
from stepsearch.cli.progress import say
from stepsearch.cli.searching import find_corpus
from stepsearch.config import asked_keys
from stepsearch.errors import DataError
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.search import build_search_engine
from stepsearch.search.guarded_search import guard


def open_saved_agent(args: argparse.Namespace, console: Console) -> Player:
    """Return what plays the model and searches the corpus that flags and settings name; one engine has all slots.

    Raises:
        ConfigError: a setting is wrong, or the engine is not installed.
        DataError: the knowledge base is not there.
        ModelError: the model cannot be loaded.
    """
    config = settings_to_play(args.model_path, args.config, args.overrides, args.knowledge_base)
    policy = StepSearchModel.load(config.model)
    settings = config.search
    if settings.knowledge_base and not Path(settings.knowledge_base).expanduser().is_dir():
        remembered = " (the model remembers it from training, or a setting names it)"
        raise DataError(
            f"knowledge base {settings.knowledge_base} is not there{'' if args.knowledge_base else remembered}: say "
            "where it is with --knowledge-base DIR"
        )
    engine_asked = "search.engine_type" in asked_keys(args.config, args.overrides)
    settings, line = find_corpus(settings, None, engine_asked)
    if not (engine_asked or settings.knowledge_base or "search" in policy.record):
        line += (
            f": {args.model_path} remembers no search settings; name a corpus with --knowledge-base DIR, or an engine "
            "with search.engine_type=NAME"
        )
    # Before the engine is built: what cannot be reached ends the command.
    say(console, line)
    search = guard(build_search_engine(settings), settings)
    training = config.training.model_copy(update={"workers": 1})
    config = config.model_copy(update={"search": settings, "training": training})
    use_threads(config)
    return Player(policy, search, config)
