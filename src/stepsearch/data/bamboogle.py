"""Bamboogle: questions and answers without contexts.

Read are the published `bamboogle.csv` (columns Question, Answer) and the JSON lines `{id, question, golden_answers}`
that search-agent projects use.
"""

import csv
import io
from pathlib import Path

from stepsearch.data.benchmark import Benchmark, bare_entry, collect
from stepsearch.data.packed_files import decode_utf8, open_unpacked
from stepsearch.data.record_files import read_records
from stepsearch.data.records import Record
from stepsearch.errors import DataError
from stepsearch.types import Question


def read_bamboogle(path: Path) -> Benchmark:
    """Return a Bamboogle file, CSV by its name's ending, else JSON.

    Raises:
        DataError: the file cannot be read or a record is malformed.
    """
    if is_csv(path):
        return Benchmark("bamboogle", _read_csv(path), [])
    return collect(read_records(path), "bamboogle", lambda record: bare_entry(record, "bamboogle"))


def is_csv(path: Path) -> bool:
    """Return whether a file's name says that it is CSV, packed or not."""
    return path.name.lower().removesuffix(".gz").endswith(".csv")


def _read_csv(path: Path) -> list[Question]:
    with open_unpacked(path) as file:
        text = decode_utf8(file.read(), str(path))
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        questions = [_csv_question(row, number, path) for number, row in enumerate(rows, start=1)]
    except csv.Error as error:
        reason = f"{error} after line {rows.line_num}"
        raise DataError(f"{path} is not whole CSV ({reason}): cut off or damaged, get it again") from None
    if not questions:
        raise DataError(f"{path} is empty: it holds no question")
    return questions


def _csv_question(row: dict[str, str | None], number: int, path: Path) -> Question:
    # None marks a short row.
    record = Record({key: value for key, value in row.items() if value is not None}, f"{path}, record {number}")
    return Question(
        id=f"bamboogle_{number}",
        question=record.filled_text("Question"),
        answers=(record.filled_text("Answer"),),
        dataset="bamboogle",
    )
