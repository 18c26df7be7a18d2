"""`stepsearch export`: questions or a knowledge base in the formats of other programs."""

import argparse
from collections.abc import Callable
from pathlib import Path

from stepsearch.data import KnowledgeBase, read_questions, write_processed
from stepsearch.data.corpus import write_corpus
from stepsearch.data.parquet import write_parquet
from stepsearch.data.processed import write_processed_lines
from stepsearch.data.verl_rows import ROW_SHAPE, question_to_row
from stepsearch.errors import ConfigError

Writer = Callable[[Path, Path, str], int]


def run(args: argparse.Namespace) -> None:
    """Write the file and say how much is in it.

    Raises:
        ConfigError: the output's name does not fit the format.
        DataError: the input cannot be read, or the output cannot be written.
    """
    written = WRITERS[args.format](args.input, args.output, args.split)
    print(f"{written:,} {'passages' if args.format == 'corpus' else 'questions'} written to {args.output}")


def _verl(source: Path, target: Path, split: str) -> int:
    if target.suffix != ".parquet":
        raise ConfigError(f"--output {target}: verl reads files whose names end in .parquet")
    questions = read_questions(source)
    return write_parquet(target, (question_to_row(q, place, split) for place, q in enumerate(questions)), ROW_SHAPE)


def _jsonl(source: Path, target: Path, split: str) -> int:
    return write_processed_lines(target, read_questions(source))


def _processed(source: Path, target: Path, split: str) -> int:
    return write_processed(target, read_questions(source))


def _corpus(source: Path, target: Path, split: str) -> int:
    return write_corpus(target, KnowledgeBase.open(source))


WRITERS: dict[str, Writer] = {"verl": _verl, "jsonl": _jsonl, "processed": _processed, "corpus": _corpus}
