import json
from collections import Counter

import pytest

from stepsearch.data.hotpotqa import read_hotpotqa
from stepsearch.errors import DataError


def record(**changes):
    return {
        "_id": "h1",
        "question": "Who wrote Up?",
        "answer": "Ann Lee",
        "type": "bridge",
        "supporting_facts": [["Up", 0], ["Ann Lee", 9], ["Up", 1]],
        "context": [["Other", ["x."]], ["Up", ["Up is a film.", " Ann Lee wrote it."]], ["Ann Lee", ["Ann."]]],
    } | changes


def written(tmp_path, *records):
    path = tmp_path / "hotpot.json"
    path.write_text(json.dumps(list(records)), encoding="utf-8")
    return path


def test_golden_passages_are_whole_paragraphs_in_the_order_of_the_facts(tmp_path):
    [question] = read_hotpotqa(written(tmp_path, record())).questions
    assert [(p.title, p.text) for p in question.golden_passages] == [
        ("Up", "Up is a film. Ann Lee wrote it."),
        ("Ann Lee", "Ann."),
    ]
    assert question.kind == "bridge"
    assert question.hops is None
    assert question.sub_questions == ()


def test_half_of_the_golden_passages_is_none(tmp_path):
    [question] = read_hotpotqa(written(tmp_path, record(supporting_facts=[["Up", 0], ["Absent", 0]]))).questions
    assert question.golden_passages == ()


def test_blank_paragraphs_are_left_out(tmp_path):
    benchmark = read_hotpotqa(written(tmp_path, record(context=[["Up", ["a"]], ["Ann Lee", ["b"]], ["Empty", []]])))
    assert [passage.title for passage in benchmark.passages] == ["Up", "Ann Lee"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": [["Up", "text"]]}, r"context\[0\] must be \[title, \[sentences\]\]"),
        ({"context": {"title": []}}, "key 'context' must hold a list, not an object"),
        ({"supporting_facts": [["Up"]]}, r"supporting_facts\[0\] must be"),
        ({"answer": None}, "key 'answer' must hold a text, not null"),
        ({"question": "  "}, "key 'question' is blank"),
    ],
)
def test_malformed_record_is_named(change, message, tmp_path):
    with pytest.raises(DataError, match=rf"hotpot\.json, record 2: {message}"):
        read_hotpotqa(written(tmp_path, record(_id="h0"), record(**change)))


def test_genuine_sample(real_data):
    benchmark = read_hotpotqa(real_data / "hotpot_dev_distractor_v1.sample100.json")
    assert (len(benchmark.questions), len(benchmark.passages)) == (100, 986)
    assert Counter(question.kind for question in benchmark.questions) == {"bridge": 60, "comparison": 40}
    assert all(len(question.golden_passages) == 2 for question in benchmark.questions)


def test_genuine_record_by_hand(real_data):
    first = read_hotpotqa(real_data / "hotpot_dev_distractor_v1.sample100.json").questions[0]
    assert first.id == "5ab516485542990594ba9cfc"
    assert first.answers == ("Iran",)
    assert [passage.title for passage in first.golden_passages] == ["Nimavar school", "Bazaar"]
    assert first.golden_passages[0].text.endswith(
        "Isfahan, Iran. It's located in Nimavar Bazaar and belongs to Safavid era. "
        "This school was built in 1691 in the era of Suleiman I."
    )
