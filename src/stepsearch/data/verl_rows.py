"""The rows that verl and Search-R1 train on, with what step rewards need beside it.

    {id, question, golden_answers: [text], data_source, agent_name, prompt: [{role, content}], ability,
     reward_model: {style, ground_truth: {target: [text], search_keys: [[text]]}},
     extra_info: {split, index, question, support_docs: [{id, title, paragraph_text}],
                  subquestions: [{sub_question, answer, golden_id, subject, relation}], hops, type}}

The columns up to `reward_model.ground_truth.target`, and `extra_info.{split, index}`, are Search-R1's. `search_keys`
has a list of reference queries for each sub-question, and `support_docs` the golden documents, named as in the
released StepSearch code. `agent_name` is how verl chooses who plays an episode (docs/verl.md). The rest makes the
rows whole: they are read back as the questions that they were written from.
"""

from typing import Any

from stepsearch.data.parquet import Shape
from stepsearch.data.processed import question_from_record, question_to_item
from stepsearch.data.records import Record, as_record
from stepsearch.protocol import render_prompt
from stepsearch.types import Question

# Search-R1 chooses the reward by these names.
SOURCES = {"2wiki": "2wikimultihopqa", "": "stepsearch"}
_DATASETS = {source: dataset for dataset, source in SOURCES.items()}
# verl's own preparation of Search-R1's data puts it before the source.
_VERL_PREFIX = "searchR1_"
_QUESTION_MARK = "Question:"
AGENT = "stepsearch"

_SUB_QUESTION: dict[str, Shape] = dict.fromkeys(
    ("sub_question", "answer", "golden_id", "subject", "relation"), "string"
)
ROW_SHAPE: dict[str, Shape] = {
    "id": "string",
    "question": "string",
    "golden_answers": ["string"],
    "data_source": "string",
    "agent_name": "string",
    "prompt": [{"role": "string", "content": "string"}],
    "ability": "string",
    "reward_model": {"style": "string", "ground_truth": {"target": ["string"], "search_keys": [["string"]]}},
    "extra_info": {
        "split": "string",
        "index": "int64",
        "question": "string",
        "support_docs": [{"id": "string", "title": "string", "paragraph_text": "string"}],
        "subquestions": [_SUB_QUESTION],
        "hops": "int64",
        "type": "string",
    },
}


def question_to_row(question: Question, index: int, split: str) -> dict[str, Any]:
    """Return a question as a row, with the prompt that asks for reasoning, searching and answering in tags.

    Args:
        question: what is asked.
        index: its place in the file.
        split: `train`, `dev` or `test`.
    """
    item = question_to_item(question)
    answers = list(question.answers)
    return {
        "id": question.id,
        "question": question.question,
        "golden_answers": answers,
        "data_source": SOURCES.get(question.dataset, question.dataset),
        "agent_name": AGENT,
        "prompt": [{"role": "user", "content": render_prompt("instructions", question.question)}],
        "ability": "fact-reasoning",
        "reward_model": {
            "style": "rule",
            "ground_truth": {
                "target": answers,
                "search_keys": [list(sub.search_queries) for sub in question.sub_questions],
            },
        },
        "extra_info": {
            "split": split,
            "index": index,
            "question": question.question,
            "support_docs": [
                {"id": passage.id, "title": passage.title, "paragraph_text": passage.text}
                for passage in question.golden_passages
            ],
            "subquestions": [{key: sub[key] for key in _SUB_QUESTION} for sub in item["subquestions"]],
            "hops": question.hops,
            "type": question.kind,
        },
    }


def question_from_row(row: Record) -> Question:
    """Return a row as a question; one of Search-R1 or verl has answers alone, and an id that starts with its source.

    Raises:
        DataError: a key is missing or of the wrong type, the row holds no answer, or search keys do not fit the
            sub-questions.
    """
    source = row.text("data_source", default="").removeprefix(_VERL_PREFIX)
    extra = _part(row, "extra_info")
    truth = _part(_part(row, "reward_model"), "ground_truth")
    answers = _answers(row, truth)
    item: dict[str, Any] = {
        "question": _question_text(row, extra),
        "answer": answers[0],
        "answer_aliases": answers[1:],
        "dataset": _DATASETS.get(source, source),
    }
    if extra.values.get("subquestions") is None:
        return question_from_record(Record(item | {"id": _foreign_id(row, extra, source)}, row.where))
    item |= {
        "id": row.identifier("id"),
        "subquestions": _sub_questions(extra, truth),
        "golden_documents": [
            {"id": document.values.get("id"), "title": document.text("title"), "text": document.text("paragraph_text")}
            for document in extra.records("support_docs")
        ],
        "hops": extra.values.get("hops"),
        "type": extra.values.get("type"),
    }
    return question_from_record(Record(item, row.where))


def _part(record: Record, key: str) -> Record:
    value = record.values.get(key)
    return as_record({} if value is None else value, f"{record.where}, {key}")


def _answers(row: Record, truth: Record) -> list[str]:
    target = truth.values.get("target")
    if isinstance(target, str):
        target = [target]
    given = Record({"target": row.values.get("golden_answers") if target is None else target}, truth.where)
    answers = [answer for answer in given.texts("target") if answer.strip()]
    if not answers:
        raise row.error("reward_model.ground_truth.target holds no answer")
    return answers


def _question_text(row: Record, extra: Record) -> str:
    """Return the question, which verl keeps in `extra_info`, and others at the end of the prompt alone."""
    for holder in (row, extra):
        if holder.values.get("question") is not None:
            return holder.filled_text("question")
    messages = row.records("prompt")
    content = messages[-1].text("content") if messages else ""
    return content.rpartition(_QUESTION_MARK)[2].strip()


def _foreign_id(row: Record, extra: Record, source: str) -> str:
    """Return an id that is unique where benchmarks are merged that all count from `train_0`."""
    split, index = extra.values.get("split"), extra.values.get("index")
    within = row.identifier("id", default="") or f"{split}_{index}"
    return f"{source}/{within}" if within != "None_None" else row.where.rpartition(", ")[2]


def _sub_questions(extra: Record, truth: Record) -> list[dict[str, Any]]:
    sub_questions, keys = extra.records("subquestions"), truth.items("search_keys")
    if len(sub_questions) != len(keys):
        raise truth.error(f"search_keys has {len(keys)} entries for {len(sub_questions)} sub-questions")
    return [{**sub.values, "search_queries": queries} for sub, queries in zip(sub_questions, keys, strict=True)]
