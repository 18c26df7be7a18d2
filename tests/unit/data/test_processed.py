import json

import pytest

from stepsearch.data.musique import read_musique
from stepsearch.data.processed import QUESTION_KEYS, SUB_QUESTION_KEYS, write_processed
from stepsearch.data.question_files import read_questions
from stepsearch.data.record_files import read_records
from stepsearch.data.records import Record
from stepsearch.data.two_wiki import read_two_wiki
from stepsearch.data.verl_rows import ROW_SHAPE
from stepsearch.errors import DataError


def test_round_trip_of_genuine_questions(real_data, tmp_path):
    for questions in (
        read_musique(real_data / "musique_ans_v1.0_dev.sample100.jsonl").questions,
        read_two_wiki(real_data / "2wikimultihop_dev.sample.json").questions,
    ):
        path = tmp_path / "processed.json"
        assert write_processed(path, questions) == len(questions)
        assert read_questions(path) == questions


def test_what_is_written(musique_record, write_jsonl, tmp_path):
    musique_record["answer"] = "Rōma"
    path = tmp_path / "processed.json"
    write_processed(path, read_musique(write_jsonl(musique_record)).questions)
    text = path.read_text(encoding="utf-8")
    assert "Rōma" in text
    [item] = json.loads(text)
    assert list(item) == [
        "id",
        "question",
        "answer",
        "answer_aliases",
        "subquestions",
        "golden_documents",
        "dataset",
        "hops",
        "type",
    ]
    assert item.keys() == QUESTION_KEYS
    assert item["subquestions"][0].keys() == SUB_QUESTION_KEYS
    assert item["answer_aliases"] == ["Roma", "Rome"]
    assert item["subquestions"][0] == {
        "sub_question": "Up >> screenwriter",
        "answer": "Ann Lee",
        "search_queries": ["Up screenwriter", "screenwriter of Up", "who is the screenwriter of Up"],
        "golden_id": item["golden_documents"][0]["id"],
        "subject": "Up",
        "relation": "screenwriter",
    }


def test_raw_musique_is_recognised(musique_record, write_jsonl):
    path = write_jsonl(musique_record)
    assert read_questions(path) == read_musique(path).questions


def test_failure_while_writing_leaves_the_old_file(musique_record, write_jsonl, tmp_path):
    path = tmp_path / "processed.json"
    questions = read_musique(write_jsonl(musique_record)).questions
    write_processed(path, questions)
    before = path.read_bytes()

    def failing():
        yield questions[0]
        raise DataError("half-way")

    with pytest.raises(DataError, match="half-way"):
        write_processed(path, failing())
    assert path.read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"data.jsonl", "processed.json"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": 3}, r"record 1: key 'question' must hold a text, not a number"),
        ({"subquestions": "x"}, r"record 1: key 'subquestions' must hold a list, not a text"),
        ({"subquestions": [{"sub_question": "s"}]}, r"record 1, subquestions\[0\]: key 'search_queries' is missing"),
        (
            {"subquestions": [{"sub_question": "s", "search_queries": "q"}]},
            r"subquestions\[0\]: key 'search_queries' must hold a list",
        ),
        (
            {"subquestions": [{"sub_question": "s", "search_queries": [], "golden_id": "d"}]},
            "golden_id d is none of the question's golden_documents",
        ),
        (
            {"golden_documents": [{"id": "prod-0"}]},
            r"record 1, golden_documents\[0\]: key 'text' is missing; a golden document is .*whole text.* and the id",
        ),
        (
            {"golden_documents": ["prod-0"]},
            r"golden_documents\[0\] must be a JSON object, not a text; a golden document is .*whole text.* and the id",
        ),
        ({"hops": "two"}, "key 'hops' must hold a whole number"),
    ],
)
def test_malformed_item(change, message, tmp_path):
    path = tmp_path / "items.json"
    path.write_text(json.dumps([{"question": "q", "answer": "a"} | change]), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_questions(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"golden_docs": []}, r"items\.json, record 1: unknown key golden_docs; did you mean golden_documents\?$"),
        ({"subquestons": []}, r"record 1: unknown key subquestons; did you mean subquestions\?$"),
        ({"sub_questions": []}, r"did you mean subquestions\?$"),
        (
            {"subquestions": [{"sub_question": "s", "search_queries": [], "golden_ids": "d"}]},
            r"record 1, subquestions\[0\]: unknown key golden_ids; did you mean golden_id\?$",
        ),
    ],
)
def test_a_misspelt_key_is_not_passed_over(change, message, tmp_path):
    path = tmp_path / "items.json"
    path.write_text(json.dumps([{"question": "q", "answer": "a"} | change]), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_questions(path)


@pytest.mark.parametrize(
    "more",
    [
        {
            "_id": "7",
            "level": "hard",
            "evidence": [],
            "documents": [],
            "qtype": "bridge",
            "question_id": 3,
            "answers": [],
        },
        # The key that is meant is there: the other is the user's own.
        {"golden_documents": [], "golden_docs": [], "question_": "q"},
    ],
)
def test_other_keys_are_left_alone(more, tmp_path):
    path = tmp_path / "items.json"
    path.write_text(json.dumps([{"question": "q", "answer": "a"} | more]), encoding="utf-8")
    assert len(read_questions(path)) == 1


@pytest.mark.parametrize(
    "name",
    [
        "musique_ans_v1.0_dev.sample100.jsonl",
        "hotpot_dev_distractor_v1.sample100.json",
        "2wikimultihop_dev.sample.json",
        "bamboogle_test.sample60.jsonl",
    ],
)
def test_no_published_record_has_a_key_that_is_taken_for_a_misspelt_one(name, real_data):
    for record in read_records(real_data / name):
        record.refuse_misspelt(QUESTION_KEYS)


def test_no_column_of_search_r1_or_verl_is_taken_for_a_misspelt_one():
    Record(ROW_SHAPE | ROW_SHAPE["extra_info"], "here").refuse_misspelt(QUESTION_KEYS)
