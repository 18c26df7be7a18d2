from collections import Counter

import pytest

from stepsearch.data.musique import read_musique
from stepsearch.errors import DataError
from stepsearch.types import Passage


def test_small_record(musique_record, write_jsonl):
    [question] = read_musique(write_jsonl(musique_record)).questions
    up = Passage.from_text("Up was written by Ann Lee.", "Up")
    ann = Passage.from_text("Ann Lee was born in Rome.", "Ann Lee")
    assert question.golden_passages == (up, ann)
    assert question.answers == ("Rome", "Roma")
    assert question.hops == 2
    first, second = question.sub_questions
    assert (first.subject, first.relation, first.answer) == ("Up", "screenwriter", "Ann Lee")
    assert first.golden_passage_id == up.id
    assert (second.question, second.subject, second.relation) == ("Where was Ann Lee born?", "", "")
    assert second.golden_passage_id == ann.id


def test_unanswerable_records_are_skipped_and_counted(musique_record, write_jsonl):
    unanswerable = {**musique_record, "id": "other", "answerable": False}
    benchmark = read_musique(write_jsonl(musique_record, unanswerable))
    assert (len(benchmark.questions), benchmark.skipped) == (1, 1)


def test_only_unanswerable_records(musique_record, write_jsonl):
    with pytest.raises(DataError, match="all 1 are marked unanswerable"):
        read_musique(write_jsonl({**musique_record, "answerable": False}))


def test_supporting_index_out_of_range(musique_record, write_jsonl):
    musique_record["question_decomposition"][1]["paragraph_support_idx"] = 3
    with pytest.raises(
        DataError, match=r"line 1, question_decomposition\[1\]: paragraph_support_idx 3 is none of .* 3"
    ):
        read_musique(write_jsonl(musique_record))


@pytest.mark.parametrize("key", ["id", "question", "answer", "paragraphs", "question_decomposition"])
def test_missing_key_names_file_line_and_key(key, musique_record, write_jsonl):
    broken = {name: value for name, value in musique_record.items() if name != key} | {"answerable": True}
    with pytest.raises(DataError, match=rf"data\.jsonl, line 2: key '{key}' is missing"):
        read_musique(write_jsonl({**musique_record, "id": "x"}, broken))


@pytest.mark.parametrize("key", ["title", "paragraph_text"])
def test_missing_paragraph_key(key, musique_record, write_jsonl):
    del musique_record["paragraphs"][2][key]
    with pytest.raises(DataError, match=rf"line 1, paragraphs\[2\]: key '{key}' is missing"):
        read_musique(write_jsonl(musique_record))


def test_repeated_id(musique_record, write_jsonl):
    with pytest.raises(DataError, match="line 2: question id 2hop__1_2 occurs a second time"):
        read_musique(write_jsonl(musique_record, musique_record))


def test_genuine_sample(real_data):
    benchmark = read_musique(real_data / "musique_ans_v1.0_dev.sample100.jsonl")
    assert (len(benchmark.questions), len(benchmark.passages), benchmark.skipped) == (100, 1799, 0)
    assert Counter(question.hops for question in benchmark.questions) == {2: 76, 3: 17, 4: 7}
    assert all(int(question.id[0]) == question.hops for question in benchmark.questions)
    subs = [sub for question in benchmark.questions for sub in question.sub_questions]
    assert len(subs) == 231
    assert sum(bool(sub.relation) for sub in subs) == 78
    assert all("#" not in sub.question and sub.golden_passage_id for sub in subs)
    assert all(2 <= len(sub.search_queries) <= 3 for sub in subs)
    assert len({passage.id for passage in benchmark.passages}) == 1799


def test_genuine_records_by_hand(real_data):
    questions = {q.id: q for q in read_musique(real_data / "musique_ans_v1.0_dev.sample100.jsonl").questions}

    tamworth = questions["2hop__25396_593388"]
    assert tamworth.answers == ("Sir Robert Peel, 1st Baronet",)
    assert [passage.title for passage in tamworth.golden_passages] == ["Political party", "William Yates Peel"]
    assert tamworth.sub_questions[1].question == "Robert Peel >> father"
    assert (tamworth.sub_questions[1].subject, tamworth.sub_questions[1].relation) == ("Robert Peel", "father")

    eritrea = questions["3hop1__158139_19788_15107"]
    assert [sub.question for sub in eritrea.sub_questions] == [
        "Where do suicides by young females at a greater rate elderly females?",
        "Which religion is widely practiced in South-East Asia?",
        "What percentage of Eritrea is estimated to adhere to Islam?",
    ]
    assert [passage.title for passage in eritrea.golden_passages] == ["Suicide", "Southeast Asia", "Eritrea"]

    # Two different paragraphs of one article support the two hops.
    menzies = questions["2hop__29367_29376"]
    assert [passage.title for passage in menzies.golden_passages] == ["Liberal Party of Australia"] * 2
    assert len({passage.id for passage in menzies.golden_passages}) == 2

    vivaldi = questions["3hop1__409517_547811_80702"]
    assert vivaldi.answers == ("Rialto Bridge", "Ponte di Rialto")
    assert [(sub.question, sub.answer) for sub in vivaldi.sub_questions] == [
        ("Scanderbeg >> composer", "Antonio Vivaldi"),
        ("Antonio Vivaldi >> place of birth", "Venice"),
        ("what is the name of the famous bridge in Venice", "Rialto Bridge"),
    ]
    assert [passage.title for passage in vivaldi.golden_passages] == [
        "Scanderbeg (opera)",
        "Orlando furioso (Vivaldi, 1714)",
        "Rialto Bridge",
    ]
    assert vivaldi.sub_questions[1].search_queries == (
        "Antonio Vivaldi place of birth",
        "birthplace of Antonio Vivaldi",
        "where was Antonio Vivaldi born",
    )
