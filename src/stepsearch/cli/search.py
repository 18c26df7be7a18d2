"""`stepsearch search`: one query to any engine, and what it finds."""

import argparse
from contextlib import closing

from stepsearch.cli.progress import open_console, say
from stepsearch.cli.searching import search_settings
from stepsearch.search import build_search_engine
from stepsearch.types import Passage


def run(args: argparse.Namespace) -> None:
    """Print the passages that a query finds, best first.

    Raises:
        ConfigError: a setting is wrong.
        DataError: the index's folder is no knowledge base.
        SearchError: the engine cannot be built, or fails.
    """
    settings = search_settings(args)
    top_k = settings.top_k if args.top_k is None else args.top_k
    with closing(build_search_engine(settings)) as engine:
        [found] = engine.search_batch([args.query], top_k)
    console = open_console()
    for rank, passage in enumerate(found, start=1):
        say(console, _headline(rank, passage), style="bold")
        say(console, f"   {passage.text}")
    if not found:
        say(console, "nothing found")


def _headline(rank: int, passage: Passage) -> str:
    score = "" if passage.score is None else f", score {passage.score:.4g}"
    return f"{rank}. {passage.title or '(no title)'} [id {passage.id}{score}]"
