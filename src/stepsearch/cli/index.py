"""`stepsearch index`: passages of any kind to a knowledge base with its BM25 index, and vectors where asked for."""

import argparse
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from stepsearch.cli.arguments import DENSE
from stepsearch.cli.main import silence_loading_bars
from stepsearch.cli.progress import Advance, StageProgress, open_console, say
from stepsearch.config import load_config
from stepsearch.data.knowledge_base import require_replaceable
from stepsearch.errors import ConfigError, DataError
from stepsearch.search import Patience
from stepsearch.search.bm25_search import INDEX_FOLDER, Progress
from stepsearch.search.corpus_indexing import has_been_indexed, has_been_read, index_beside, put_in_place
from stepsearch.search.encoders import load_encoder
from stepsearch.search.passage_sources import PassageSources
from stepsearch.types import Passage

_NOTE_EVERY = 1000


def run(args: argparse.Namespace) -> None:
    """Read the passages of all inputs, index them for the engine that is asked for, and say how to search them.

    Raises:
        ConfigError: a setting is wrong.
        DataError: an input cannot be read, or the output is something else than a knowledge base.
        SearchError: the passages hold no words, or the encoder cannot be loaded or fails.
    """
    if args.engine == DENSE:
        _index_for_dense(args)
    else:
        load_config(args.config, args.overrides)
        if args.encoder is not None:
            raise ConfigError("--encoder makes vectors: say --engine dense with it, or leave it out")
        _index_for_bm25(args, open_console())


def _index_for_dense(args: argparse.Namespace) -> None:
    # Brings torch.
    from stepsearch.cli.index_dense import dense_settings, make_vectors, say_how_to_search

    silence_loading_bars()
    console, search = open_console(), dense_settings(args)
    # What is wrong with the encoder is said before hours of reading, too.
    load_encoder(search.dense, Patience.of(search), args.output)
    _index_for_bm25(args, console, lambda unfinished: make_vectors(console, unfinished, search))
    say_how_to_search(console, args.output, search)


def _index_for_bm25(args: argparse.Namespace, console: Console, then: Callable[[Path], None] | None = None) -> None:
    """Make a knowledge base with its index; `then` is done to its folder before that takes its place."""
    started = time.perf_counter()
    # What is wrong with the names is said before hours of reading.
    require_replaceable(args.output)
    inputs = PassageSources(args.input, args.passage_words)
    sources = inputs.state()
    if has_been_indexed(args.output, sources):
        say(console, "the passages have been read and indexed for BM25 by a run that was interrupted")
    elif has_been_read(args.output, sources):
        say(console, "the passages have been read by a run that was interrupted: only the index is left to make")
    progress = StageProgress(console, {"index": 1.0})
    with _writing(args.output), progress.running(), progress.stage("index") as advance:
        unfinished = index_beside(args.output, _counted(inputs.read(), advance), sources, _indexed(advance))
    seconds = time.perf_counter() - started
    if then is not None:
        then(unfinished)
    with _writing(args.output):
        engine = put_in_place(args.output)
    size = sum(path.stat().st_size for path in (args.output / INDEX_FOLDER).iterdir())
    say(console, f"{args.output}: {len(engine):,} passages, {size / 1e6:,.1f} MB of BM25 index, in {seconds:,.1f} s")
    say(console, f'next: stepsearch search "a question" --index {args.output}')


@contextmanager
def _writing(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        # Not the file's name, which is that of something unfinished beside the folder.
        raise DataError(f"--output {folder} cannot be written: {error.strerror or error}") from None


def _counted(passages: Iterable[Passage], advance: Advance) -> Iterator[Passage]:
    for number, passage in enumerate(passages, start=1):
        if number % _NOTE_EVERY == 0:
            # How many there are is not known before the last one.
            advance(0.0, f"{number:,} passages read")
        yield passage


def _indexed(advance: Advance) -> Progress:
    done = 0.0

    def progress(share: float) -> None:
        nonlocal done
        advance(share - done)
        done = share

    return progress
