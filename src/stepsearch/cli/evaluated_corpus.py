"""What an evaluation searches: one corpus for all that it asks, and for all methods."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stepsearch.cli.searching import BM25, find_corpus, needs_no_corpus
from stepsearch.config import Config, asked_keys
from stepsearch.data import Benchmark
from stepsearch.data.knowledge_base import KNOWLEDGE_BASE, knowledge_base_beside
from stepsearch.errors import ConfigError, DataError
from stepsearch.search import SearchEngine
from stepsearch.search.bm25_search import BM25SearchEngine


def choose_corpus(
    args: argparse.Namespace, config: Config, benchmarks: Sequence[Benchmark]
) -> tuple[Config, SearchEngine | None, str]:
    """Return the settings, the engine where it is not built from them, and a line that says what is searched.

    Unless the user names a knowledge base or another engine, BM25 searches the knowledge base beside the user's own
    data files, and where there is none, the files' own contexts, all of them together. The knowledge base that the
    model remembers is not it.

    Raises:
        ConfigError: some of the files have a knowledge base beside them, and others another or none.
        DataError: nothing is asked for and the files have no contexts, or the knowledge base is not whole.
    """
    asked, search = asked_keys(args.config, args.overrides), config.search
    engine_asked = "search.engine_type" in asked
    corpus_named = search.knowledge_base and (args.knowledge_base is not None or "search.knowledge_base" in asked)
    data_file = None
    if not corpus_named and not (engine_asked and needs_no_corpus(search)):
        data_file = _file_with_a_base(args.data or (), with_benchmarks=args.musique_dir is not None)
    if data_file is not None:
        engine_type = search.engine_type if engine_asked else BM25
        unnamed = search.model_copy(update={"engine_type": engine_type, "knowledge_base": None})
        settings, line = find_corpus(unnamed, data_file, engine_asked=True)
        return config.model_copy(update={"search": settings}), None, line
    if corpus_named or (engine_asked and search.engine_type != BM25):
        settings, line = find_corpus(search, None, engine_asked)
        return config.model_copy(update={"search": settings}), None, line
    return _own_contexts(config, benchmarks)


def _file_with_a_base(files: Sequence[Path], *, with_benchmarks: bool) -> Path | None:
    """Return a file beside which all that is evaluated on has its knowledge base; None where there is none.

    Raises:
        ConfigError: there is one, but not for all.
    """
    beside = [knowledge_base_beside(path) for path in files]
    bases = {None if base is None else base.resolve() for base in beside}
    if bases <= {None}:
        return None
    if len(bases) > 1 or with_benchmarks:
        raise ConfigError(
            f"{next(base for base in beside if base)} is the corpus of some of what is evaluated on and not of all: "
            "name one for all with --knowledge-base DIR, or evaluate each with an --output-dir of its own"
        )
    return files[0]


def _own_contexts(config: Config, benchmarks: Sequence[Benchmark]) -> tuple[Config, SearchEngine, str]:
    passages = {passage.id: passage for benchmark in benchmarks for passage in benchmark.passages}
    if not passages:
        names = " and ".join(benchmark.dataset for benchmark in benchmarks)
        raise DataError(
            f"{names} comes without documents to search: name a corpus with --knowledge-base DIR, let one stand as "
            f"{KNOWLEDGE_BASE}/ beside the file of --data, or evaluate it together with a dataset that has contexts"
        )
    line = f"search: bm25 over the {len(passages):,} passages of the files' own contexts"
    own = config.search.model_copy(update={"engine_type": BM25, "knowledge_base": None})
    config = config.model_copy(update={"search": own})
    return config, BM25SearchEngine.from_passages(list(passages.values())), line
