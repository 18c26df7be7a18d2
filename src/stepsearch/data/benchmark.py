"""A benchmark file in memory, and the loop that every reader shares."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stepsearch.data.records import Record
from stepsearch.errors import DataError
from stepsearch.types import Passage, Question


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Questions of one file and the corpus that comes with them.

    Attributes:
        dataset: key of `READERS`; empty where the form of the file belongs to none.
        questions: in the order of the file.
        passages: every paragraph of the questions' contexts once, in the order first seen; empty without contexts.
        skipped: records left out because the source calls them unanswerable.
    """

    dataset: str
    questions: list[Question]
    passages: list[Passage]
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a benchmark: its question and the paragraphs of its context."""

    question: Question
    passages: tuple[Passage, ...] = ()


# None: the source calls the question unanswerable.
EntryParser = Callable[[Record], Entry | None]


def bare_entry(record: Record, dataset: str) -> Entry:
    """Return a record of the form `{id, question, golden_answers}`, in which search-agent projects pass benchmarks on.

    Raises:
        DataError: a key is missing, of the wrong type, or holds no answer.
    """
    answers = tuple(dict.fromkeys(answer.strip() for answer in record.texts("golden_answers") if answer.strip()))
    if not answers:
        raise record.error("key 'golden_answers' holds no answer")
    return Entry(Question(record.identifier("id"), record.filled_text("question"), answers, dataset=dataset))


def or_bare(parse: EntryParser, dataset: str) -> EntryParser:
    """Return a parser that also accepts `bare_entry`'s form."""
    return lambda record: bare_entry(record, dataset) if "golden_answers" in record.values else parse(record)


def parse_entries(records: Iterable[Record], parse: EntryParser) -> Iterator[Entry | None]:
    """Yield what `parse` makes of each record, in order.

    Raises:
        DataError: a record is malformed, or an id occurs twice.
    """
    seen: set[str] = set()
    for record in records:
        entry = parse(record)
        if entry is not None:
            if entry.question.id in seen:
                raise record.error(f"question id {entry.question.id} occurs a second time")
            seen.add(entry.question.id)
        yield entry


def collect(records: Iterable[Record], dataset: str, parse: EntryParser) -> Benchmark:
    """Return everything of one file's records.

    Raises:
        DataError: a record is malformed, an id occurs twice, or every question is unanswerable.
    """
    questions: list[Question] = []
    passages: dict[str, Passage] = {}
    skipped = 0
    for entry in parse_entries(records, parse):
        if entry is None:
            skipped += 1
            continue
        questions.append(entry.question)
        for passage in entry.passages:
            passages.setdefault(passage.id, passage)
    if not questions:
        raise DataError(f"no {dataset} question can be answered: all {skipped} are marked unanswerable")
    return Benchmark(dataset, questions, list(passages.values()), skipped)
