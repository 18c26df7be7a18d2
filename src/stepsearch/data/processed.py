"""The processed format: what `prepare-data` writes, training reads, and a user's own data may be written in.

    [{id, question, answer, answer_aliases, subquestions: [{sub_question, answer, search_queries, golden_id, subject,
      relation}], golden_documents: [{id, title, text}], dataset, hops, type}]

Needed are `question`, `answer` and, in each of `subquestions`, `sub_question` and `search_queries`; in each of
`golden_documents`, `text`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stepsearch.data.record_files import write_json_lines, write_json_list
from stepsearch.data.records import Record
from stepsearch.errors import DataError
from stepsearch.types import Passage, Question, SubQuestion

QUESTION_KEYS = frozenset(
    ("id", "question", "answer", "answer_aliases", "subquestions", "golden_documents", "dataset", "hops", "type")
)
SUB_QUESTION_KEYS = frozenset(("sub_question", "answer", "search_queries", "golden_id", "subject", "relation"))


def write_processed(path: Path, questions: Iterable[Question]) -> int:
    """Write questions in the processed format, in one piece; returns how many."""
    return write_json_list(path, map(question_to_item, questions))


def write_processed_lines(path: Path, questions: Iterable[Question]) -> int:
    """Write questions as JSON lines of the processed format, which `datasets` loads, in one piece; returns how many."""
    return write_json_lines(path, map(question_to_item, questions))


def question_to_item(question: Question) -> dict[str, Any]:
    """Return a question as an item of the processed format."""
    return {
        "id": question.id,
        "question": question.question,
        "answer": question.answers[0],
        "answer_aliases": question.answers[1:],
        "subquestions": [
            {
                "sub_question": sub.question,
                "answer": sub.answer,
                "search_queries": sub.search_queries,
                "golden_id": sub.golden_passage_id,
                "subject": sub.subject,
                "relation": sub.relation,
            }
            for sub in question.sub_questions
        ],
        "golden_documents": [
            {"id": passage.id, "title": passage.title, "text": passage.text} for passage in question.golden_passages
        ],
        "dataset": question.dataset,
        "hops": question.hops,
        "type": question.kind,
    }


def question_from_record(record: Record) -> Question:
    """Return an item of the processed format as a question; without `id` it is named after its place.

    Raises:
        DataError: a key is missing, misspelt, of the wrong type, or names a golden document that is not there.
    """
    record.refuse_misspelt(QUESTION_KEYS)
    golden = _golden_passages(record)
    golden_ids = {passage.id for passage in golden}
    hops = record.values.get("hops")
    aliases = record.texts("answer_aliases") if "answer_aliases" in record.values else ()
    return Question(
        id=record.identifier("id", default=record.where.rpartition(", ")[2]),
        question=record.filled_text("question"),
        answers=tuple(dict.fromkeys((record.filled_text("answer"), *aliases))),
        sub_questions=tuple(_sub_question(sub, golden_ids) for sub in _optional_records(record, "subquestions")),
        golden_passages=golden,
        dataset=record.text("dataset", default=""),
        hops=None if hops is None else record.whole_number("hops"),
        kind=record.text("type", default=""),
    )


def _optional_records(record: Record, key: str) -> list[Record]:
    return record.records(key) if key in record.values else []


def _golden_passages(record: Record) -> tuple[Passage, ...]:
    try:
        return tuple(map(_golden_passage, _optional_records(record, "golden_documents")))
    except DataError as error:
        raise DataError(
            f'{error}; a golden document is {{"id", "title", "text"}}, with the whole text that searches are measured '
            "against, and the id that it has in the corpus"
        ) from None


def _golden_passage(document: Record) -> Passage:
    passage = Passage.from_text(document.text("text"), document.text("title", default=""))
    return Passage(document.identifier("id", default=passage.id), passage.text, passage.title)


def _sub_question(sub: Record, golden_ids: set[str]) -> SubQuestion:
    sub.refuse_misspelt(SUB_QUESTION_KEYS)
    golden_id = sub.identifier("golden_id", default="") or None
    if golden_id is not None and golden_id not in golden_ids:
        raise sub.error(f"golden_id {golden_id} is none of the question's golden_documents")
    return SubQuestion(
        question=sub.filled_text("sub_question"),
        answer=sub.text("answer", default=""),
        search_queries=sub.texts("search_queries"),
        golden_passage_id=golden_id,
        subject=sub.text("subject", default=""),
        relation=sub.text("relation", default=""),
    )
