"""`stepsearch index-dense`, and the second half of `stepsearch index --engine dense`: vectors for a knowledge base."""

import argparse
from pathlib import Path

import transformers
from rich.console import Console

from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.config import DenseSearchSettings, SearchSettings, load_config
from stepsearch.data import KnowledgeBase
from stepsearch.search import DenseSearchEngine, Patience

_ENCODING = "encoding passages"


def run(args: argparse.Namespace) -> None:
    """Index the knowledge base and say how it is searched.

    Raises:
        ConfigError: a setting is wrong.
        DataError: the folder is no knowledge base, or an image of its passages cannot be read.
        SearchError: the encoder cannot be loaded or fails, or faiss is needed and not installed.
    """
    console, folder, search = open_console(), args.knowledge_base.expanduser(), dense_settings(args)
    make_vectors(console, folder, search)
    say_how_to_search(console, folder, search)


def dense_settings(args: argparse.Namespace) -> SearchSettings:
    """Return the search section of the settings, with the encoder that a flag names.

    Raises:
        ConfigError: a setting is wrong.
    """
    search = load_config(args.config, args.overrides).search
    if args.encoder is None:
        return search
    return search.model_copy(update={"dense": search.dense.model_copy(update={"encoder": args.encoder})})


def make_vectors(console: Console, folder: Path, search: SearchSettings) -> None:
    """Index the knowledge base in `folder`.

    Raises:
        DataError: the folder is no knowledge base, or an image of its passages cannot be read.
        SearchError: the encoder cannot be loaded or fails, or faiss is needed and not installed.
    """
    # There is a bar already, for what takes longer.
    transformers.utils.logging.disable_progress_bar()
    passages = len(KnowledgeBase.open(folder))

    def say_what_is_there(vectors: int) -> None:
        say(console, f"{vectors:,} of {passages:,} passages have vectors from a run that was interrupted")

    with StageProgress(console, {_ENCODING: 1.0}).running() as bar, bar.stage(_ENCODING, passages) as advance:
        DenseSearchEngine.build(folder, search.dense, Patience.of(search), advance, say_what_is_there).close()


def say_how_to_search(console: Console, folder: Path, search: SearchSettings) -> None:
    """Say where the vectors of a knowledge base are, and which settings search them."""
    say(console, f"{len(KnowledgeBase.open(folder)):,} passages indexed in {folder / search.dense.index}")
    other = "" if search.dense.index == DenseSearchSettings().index else f" search.dense.index={search.dense.index}"
    say(console, f"next: … search.engine_type=dense search.knowledge_base={folder}{other}")
