"""MuSiQue's published JSON lines.

    {id, paragraphs: [{idx, title, paragraph_text, is_supporting}], question,
     question_decomposition: [{id, question, answer, paragraph_support_idx}], answer, answer_aliases, answerable}

A sub-question refers to earlier answers as `#1`, `#2`, and is a natural question or `subject >> relation`.
"""

from pathlib import Path

from stepsearch.data.benchmark import Benchmark, Entry, collect, or_bare
from stepsearch.data.record_files import read_records
from stepsearch.data.records import Record
from stepsearch.data.search_keys import fill_references, reference_queries, split_relation
from stepsearch.types import Passage, Question, SubQuestion

# As they are published.
TRAIN_FILE = "musique_ans_v1.0_train.jsonl"
DEV_FILE = "musique_ans_v1.0_dev.jsonl"
TEST_FILE = "musique_ans_v1.0_test.jsonl"


def read_musique(path: Path) -> Benchmark:
    """Return a MuSiQue file; unanswerable records are skipped and counted.

    Raises:
        DataError: the file cannot be read or a record is malformed.
    """
    return collect(read_records(path), "musique", or_bare(musique_entry, "musique"))


def musique_entry(record: Record) -> Entry | None:
    """Return one record as a question with its context, None if it is unanswerable.

    Raises:
        DataError: a key is missing, of the wrong type, or points at a paragraph that is not there.
    """
    if record.values.get("answerable") is False:
        return None
    paragraphs = record.records("paragraphs")
    passages = {p.whole_number("idx", position): _passage(p) for position, p in enumerate(paragraphs)}
    sub_questions = _sub_questions(record, passages)
    by_id = {passage.id: passage for passage in passages.values()}
    golden = [by_id[sub.golden_passage_id] for sub in sub_questions if sub.golden_passage_id]
    golden += [_passage(paragraph) for paragraph in paragraphs if paragraph.values.get("is_supporting")]
    question = Question(
        id=record.identifier("id"),
        question=record.filled_text("question"),
        answers=tuple(dict.fromkeys((record.filled_text("answer"), *_aliases(record)))),
        sub_questions=sub_questions,
        golden_passages=tuple(dict.fromkeys(golden)),
        dataset="musique",
        hops=len(sub_questions) or None,
        kind=record.text("type", default=""),
    )
    return Entry(question, tuple(by_id.values()))


def _aliases(record: Record) -> tuple[str, ...]:
    return record.texts("answer_aliases") if "answer_aliases" in record.values else ()


def _passage(paragraph: Record) -> Passage:
    return Passage.from_text(paragraph.text("paragraph_text"), paragraph.text("title"))


def _sub_questions(record: Record, passages: dict[int, Passage]) -> tuple[SubQuestion, ...]:
    answers: list[str] = []
    sub_questions: list[SubQuestion] = []
    for hop in record.records("question_decomposition"):
        sub_questions.append(_sub_question(hop, answers, passages))
        answers.append(sub_questions[-1].answer)
    return tuple(sub_questions)


def _sub_question(hop: Record, answers: list[str], passages: dict[int, Passage]) -> SubQuestion:
    text = hop.filled_text("question")
    subject, relation = split_relation(text) or ("", "")
    support = None if hop.require("paragraph_support_idx") is None else hop.whole_number("paragraph_support_idx")
    if support is not None and support not in passages:
        raise hop.error(f"paragraph_support_idx {support} is none of the record's {len(passages)} paragraphs")
    return SubQuestion(
        question=fill_references(text, answers),
        answer=hop.text("answer"),
        search_queries=reference_queries(text, answers),
        golden_passage_id=None if support is None else passages[support].id,
        subject=fill_references(subject, answers),
        relation=fill_references(relation, answers),
    )
