"""`stepsearch index-dense`: vectors for a knowledge base."""

import argparse
from pathlib import Path

import transformers

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
    # There is a bar already, for what takes longer.
    transformers.utils.logging.disable_progress_bar()
    search = load_config(args.config, args.overrides).search
    folder: Path = args.knowledge_base.expanduser()
    passages = len(KnowledgeBase.open(folder))
    console = open_console()
    with StageProgress(console, {_ENCODING: 1.0}).running() as bar, bar.stage(_ENCODING, passages) as advance:
        engine = DenseSearchEngine.build(folder, _settings(search, args.encoder), Patience.of(search), advance)
    engine.close()
    index = folder / search.dense.index
    say(console, f"{passages:,} passages indexed in {index}")
    other = "" if search.dense.index == DenseSearchSettings().index else f" search.dense.index={search.dense.index}"
    say(console, f"next: … search.engine_type=dense search.knowledge_base={folder}{other}")


def _settings(search: SearchSettings, encoder: str | None) -> DenseSearchSettings:
    return search.dense if encoder is None else search.dense.model_copy(update={"encoder": encoder})
