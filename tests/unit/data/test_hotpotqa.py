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


def test_golden_passages_are_whole_paragraphs_in_the_order_of_the_facts(write_list):
    [question] = read_hotpotqa(write_list(record())).questions
    assert [(p.title, p.text) for p in question.golden_passages] == [
        ("Up", "Up is a film. Ann Lee wrote it."),
        ("Ann Lee", "Ann."),
    ]
    assert question.kind == "bridge"
    assert question.hops is None


def test_a_sub_question_is_the_title_of_a_supporting_article_and_no_more(write_list):
    facts = [["Ann Lee", 0], ["Up (film)", 0]]
    context = [["Up (film)", ["Up is a film."]], ["Ann Lee", ["Ann."]]]
    [question] = read_hotpotqa(write_list(record(supporting_facts=facts, context=context))).questions
    up, ann = question.sub_questions
    # The question names "Up", so that a searcher can start there.
    assert (up.question, up.search_queries, up.answer) == ("Up (film)", ("Up", "Up (film)"), "")
    assert (ann.question, ann.search_queries, ann.answer) == ("Ann Lee", ("Ann Lee",), "")
    ann_passage, up_passage = question.golden_passages
    assert (up.golden_passage_id, ann.golden_passage_id) == (up_passage.id, ann_passage.id)


def test_titles_are_known_where_the_context_lacks_their_articles(write_list):
    [question] = read_hotpotqa(write_list(record(supporting_facts=[["Up", 0], ["Absent", 0]]))).questions
    assert [(sub.question, sub.golden_passage_id) for sub in question.sub_questions] == [("Up", None), ("Absent", None)]


def test_half_of_the_golden_passages_is_none(write_list):
    [question] = read_hotpotqa(write_list(record(supporting_facts=[["Up", 0], ["Absent", 0]]))).questions
    assert question.golden_passages == ()


def test_blank_paragraphs_are_left_out(write_list):
    benchmark = read_hotpotqa(write_list(record(context=[["Up", ["a"]], ["Ann Lee", ["b"]], ["Empty", []]])))
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
def test_malformed_record_is_named(change, message, write_list):
    with pytest.raises(DataError, match=rf"data\.json, record 2: {message}"):
        read_hotpotqa(write_list(record(_id="h0"), record(**change)))


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


def test_genuine_sub_questions_by_hand(real_data):
    questions = {q.id: q for q in read_hotpotqa(real_data / "hotpot_dev_distractor_v1.sample100.json").questions}

    school = questions["5ab516485542990594ba9cfc"]
    assert [sub.question for sub in school.sub_questions] == ["Nimavar school", "Bazaar"]
    assert [sub.golden_passage_id for sub in school.sub_questions] == [p.id for p in school.golden_passages]

    comparison = questions["5a7e37095542995ed0d166d5"]
    assert comparison.question == "Which film director is younger, Robert Z. Leonard or Sinclair Hill?"
    assert [sub.search_queries for sub in comparison.sub_questions] == [("Robert Z. Leonard",), ("Sinclair Hill",)]
    assert [passage.title for passage in comparison.golden_passages] == ["Robert Z. Leonard", "Sinclair Hill"]
    assert comparison.golden_passages[1].text.startswith("Sinclair Hill")

    olympics = questions["5a8f92fb55429918e830d271"]
    assert [sub.question for sub in olympics.sub_questions] == ["Sara Symington", "2000 Summer Olympics"]
    assert olympics.answers == ("2000 Summer Olympic Games",)


def test_every_golden_passage_of_the_genuine_sample_has_its_sub_question(real_data):
    for question in read_hotpotqa(real_data / "hotpot_dev_distractor_v1.sample100.json").questions:
        linked = [sub.golden_passage_id for sub in question.sub_questions]
        assert sorted(linked) == sorted(passage.id for passage in question.golden_passages)
        assert all(sub.search_queries and not sub.answer for sub in question.sub_questions)
