"""Questions out of any file that holds some; the first record, or the file's ending, tells the format."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from stepsearch.data.bamboogle import is_csv, read_bamboogle
from stepsearch.data.benchmark import Benchmark, Entry, EntryParser, bare_entry, collect, parse_entries
from stepsearch.data.corpus import CONTENT_KEYS
from stepsearch.data.hotpotqa import hotpotqa_entry
from stepsearch.data.musique import musique_entry
from stepsearch.data.parquet import read_parquet
from stepsearch.data.processed import question_from_record
from stepsearch.data.record_files import read_records
from stepsearch.data.records import Record
from stepsearch.data.two_wiki import two_wiki_entry
from stepsearch.data.verl_rows import question_from_row
from stepsearch.types import Question

PARQUET = ".parquet"


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a file: processed, verl/Search-R1 parquet, or a benchmark's own format.

    Raises:
        DataError: the file is missing, malformed or empty, or an id occurs twice.
    """
    return read_question_file(path).questions


def read_question_file(path: Path) -> Benchmark:
    """Return the questions of such a file, and the paragraphs of their contexts where they have some.

    Raises:
        DataError: the file is missing, malformed or empty, or an id occurs twice.
    """
    if is_csv(path):
        return read_bamboogle(path)
    records = read_parquet(path) if path.suffix == PARQUET else read_records(path)
    first = next(records)
    return collect(chain((first,), records), *recognise(first))


def entries_of_records(records: Iterator[Record]) -> Iterator[Entry | None]:
    """Yield the records of one format one by one, None for one that its source calls unanswerable.

    Raises:
        DataError: a record is malformed, or an id occurs twice.
    """
    for first in records:
        yield from parse_entries(chain((first,), records), recognise(first)[1])


def recognise(record: Record) -> tuple[str, EntryParser]:
    """Return the dataset that a record's keys give away, empty if they do not, and what parses its kind.

    Raises:
        DataError: it is a passage of a corpus.
    """
    for keys, dataset, parse in _KINDS:
        if keys <= record.values.keys():
            return dataset, parse
    if "question" not in record.values and not CONTENT_KEYS.isdisjoint(record.values):
        raise record.error(
            "this looks like a corpus, of passages and without questions: name a file of questions (a corpus goes to "
            "stepsearch index --input)"
        )
    return "", _processed_entry


def _processed_entry(record: Record) -> Entry:
    return Entry(question_from_record(record))


def _bare(record: Record) -> Entry:
    return bare_entry(record, record.text("dataset", default=""))


def _row(record: Record) -> Entry:
    return Entry(question_from_row(record))


# The keys that give a format away, the first that fits counts: an export for verl also has `golden_answers`.
_KINDS: tuple[tuple[set[str], str, EntryParser], ...] = (
    ({"reward_model"}, "", _row),
    ({"golden_answers"}, "", _bare),
    ({"question_decomposition"}, "musique", musique_entry),
    ({"paragraphs"}, "musique", musique_entry),
    ({"supporting_facts", "evidences"}, "2wiki", two_wiki_entry),
    ({"supporting_facts"}, "hotpotqa", hotpotqa_entry),
)
