"""What an evaluation asks: benchmarks by their names, and files of the user's own."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from stepsearch.data import Benchmark, find_benchmark_file, read_benchmark, read_question_file
from stepsearch.errors import ConfigError, DataError
from stepsearch.types import Question

_DEFAULT = ("musique",)
_ENDING = re.compile(r"\.(jsonl?|parquet|csv)(\.gz)?$")
# No dot: in the name of a predictions file one parts the dataset from the method.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def read_asked(args: argparse.Namespace) -> tuple[dict[str, Path], dict[str, Benchmark]]:
    """Return the files that the flags name, and what they hold, by the dataset's name: benchmarks first.

    Raises:
        ConfigError: nothing is named, benchmarks without their folder, or two of one name.
        DataError: a file is missing or malformed, or its questions have a name that no file can have.
    """
    folder: Path | None = args.musique_dir
    if folder is None and args.datasets:
        raise ConfigError("--datasets needs the folder that holds their files: add --musique-dir DIR")
    if folder is None and not args.data:
        raise ConfigError("there is nothing to evaluate on: add --data FILE, or --datasets NAME and --musique-dir DIR")
    names: Sequence[str] = args.datasets or _DEFAULT
    files = {} if folder is None else {name: find_benchmark_file(folder, name) for name in dict.fromkeys(names)}
    benchmarks = {name: read_benchmark(path, name) for name, path in files.items()}
    for path in args.data or ():
        own = read_question_file(path)
        name = dataset_name(path, own.questions)
        if name in files:
            raise ConfigError(
                f"{files[name]} and {path} are both called {name}: evaluate on one after the other, each with an "
                "--output-dir of its own"
            )
        files[name] = path
        benchmarks[name] = Benchmark(name, own.questions, own.passages, own.skipped)
    return files, benchmarks


def dataset_name(path: Path, questions: Sequence[Question]) -> str:
    """Return what results of a file are called: as all its questions say, else as the file, without its ending.

    Raises:
        DataError: it has other characters than a predictions file may have in its name.
    """
    said = {question.dataset for question in questions}
    name = (said.pop() if len(said) == 1 else "") or _ENDING.sub("", path.name).replace(".", "_")
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{path}: its results would be called {name!r}, after the `dataset` of its questions or else the file, and "
            "files are named so: take letters, digits, '_' and '-'"
        )
    return name
