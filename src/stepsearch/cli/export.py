"""`stepsearch export`: questions or knowledge bases, several as one, in the formats of other programs."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from stepsearch.data import read_questions, write_processed
from stepsearch.data.corpus import write_corpus
from stepsearch.data.parquet import write_parquet
from stepsearch.data.processed import write_processed_lines
from stepsearch.data.question_files import PARQUET
from stepsearch.data.verl_rows import ROW_SHAPE, question_to_row
from stepsearch.data.whole_files import require_writable
from stepsearch.errors import ConfigError, DataError
from stepsearch.search.stored_passages import StoredPassages
from stepsearch.types import Question

Writer = Callable[[Sequence[Path], Path, str], int]


def run(args: argparse.Namespace) -> None:
    """Write the file and say how much is in it.

    Raises:
        ConfigError: the output's name does not fit the format.
        DataError: an input cannot be read, two have a question id in common, or the output cannot be written.
    """
    require_writable(args.output, args.input)
    written = WRITERS[args.format](args.input, args.output, args.split)
    print(f"{written:,} {'passages' if args.format == 'corpus' else 'questions'} written to {args.output}")


def _verl(sources: Sequence[Path], target: Path, split: str) -> int:
    if target.suffix != PARQUET:
        raise ConfigError(f"--output {target}: verl reads files whose names end in {PARQUET}")
    rows = (question_to_row(question, place, split) for place, question in enumerate(_questions(sources)))
    return write_parquet(target, rows, ROW_SHAPE)


def _jsonl(sources: Sequence[Path], target: Path, split: str) -> int:
    return write_processed_lines(target, _questions(sources))


def _processed(sources: Sequence[Path], target: Path, split: str) -> int:
    return write_processed(target, _questions(sources))


def _corpus(sources: Sequence[Path], target: Path, split: str) -> int:
    return write_corpus(target, chain.from_iterable(map(StoredPassages.open, sources)))


def _questions(paths: Sequence[Path]) -> Iterator[Question]:
    first_in: dict[str, int] = {}
    for place, path in enumerate(paths):
        for question in read_questions(path):
            first = first_in.setdefault(question.id, place)
            if first != place:
                raise DataError(f"{path}: question id {question.id} is that of a question in {paths[first]}")
            yield question


WRITERS: dict[str, Writer] = {"verl": _verl, "jsonl": _jsonl, "processed": _processed, "corpus": _corpus}
