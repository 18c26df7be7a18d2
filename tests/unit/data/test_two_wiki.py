from collections import Counter

import pytest

from stepsearch.data.two_wiki import read_two_wiki
from stepsearch.errors import DataError


def record(**changes):
    return {
        "_id": "w1",
        "question": "Where did the director of Up die?",
        "answer": "Rome",
        "type": "compositional",
        "supporting_facts": [["Up (film)", 0], ["Ann Lee", 1]],
        "evidences": [
            ["Up", "director", "Ann Lee"],
            ["Up", "director", "Bo Ray"],
            ["Ann Lee", "place of death", "Rome"],
        ],
        "context": [["Ann Lee", ["Ann.", "She died in Rome."]], ["Up (film)", ["Up is by Ann Lee."]]],
    } | changes


def test_evidences_become_sub_questions(write_list):
    [question] = read_two_wiki(write_list(record())).questions
    film, ann = question.golden_passages
    assert (film.title, ann.title, ann.text) == ("Up (film)", "Ann Lee", "Ann. She died in Rome.")
    director, death = question.sub_questions
    assert (director.subject, director.relation, director.answer) == ("Up", "director", "Ann Lee, Bo Ray")
    assert director.golden_passage_id == film.id
    assert director.search_queries == ("Up director", "director of Up", "who is the director of Up")
    assert death.golden_passage_id == ann.id
    assert death.search_queries == ("Ann Lee place of death", "place of death of Ann Lee", "where did Ann Lee die")
    assert (question.hops, question.kind) == (2, "compositional")


def test_subject_without_an_article_of_its_own(write_list):
    evidences = [*record()["evidences"], ["Someone", "country", "Italy"]]
    [question] = read_two_wiki(write_list(record(evidences=evidences))).questions
    assert [sub.golden_passage_id is not None for sub in question.sub_questions] == [True, True, False]


def test_a_title_is_known_without_its_qualifier_where_the_order_does_not_tell(write_list):
    facts = [["Ann Lee", 1], ["Up (film)", 0]]
    evidences = [["up", "director", "Ann Lee"], ["Ann Lee", "place of death", "Rome"], ["Someone", "country", "Italy"]]
    [question] = read_two_wiki(write_list(record(evidences=evidences, supporting_facts=facts))).questions
    ann, film = question.golden_passages
    assert [sub.golden_passage_id for sub in question.sub_questions] == [film.id, ann.id, None]


def test_malformed_evidence(write_list):
    with pytest.raises(DataError, match=r"record 1: evidences\[0\] must be \[subject, relation, object\]"):
        read_two_wiki(write_list(record(evidences=[["Up", "director"]])))


def test_genuine_sample(real_data):
    benchmark = read_two_wiki(real_data / "2wikimultihop_dev.sample.json")
    assert (len(benchmark.questions), len(benchmark.passages)) == (83, 677)
    kinds = Counter(question.kind for question in benchmark.questions)
    assert kinds == {"comparison": 33, "compositional": 24, "bridge_comparison": 21, "inference": 5}
    for question in benchmark.questions:
        assert len(question.golden_passages) == question.hops
        golden = {passage.id for passage in question.golden_passages}
        assert {sub.golden_passage_id for sub in question.sub_questions} == golden


def test_genuine_records_by_hand(real_data):
    questions = {q.id: q for q in read_two_wiki(real_data / "2wikimultihop_dev.sample.json").questions}

    # The evidence calls the film otherwise than its article.
    serpent = questions["f06815680bdb11eba7f7acde48001122"]
    assert [passage.title for passage in serpent.golden_passages] == ["The Serpent's Egg (film)", "Ingmar Bergman"]
    assert [sub.question for sub in serpent.sub_questions] == [
        "The Serpent's Egg >> director",
        "Ingmar Bergman >> place of death",
    ]
    assert serpent.sub_questions[0].golden_passage_id == serpent.golden_passages[0].id

    directors = questions["57bfca9a095d11ebbdaeac1f6bf848b6"]
    assert [sub.answer for sub in directors.sub_questions] == ["Kurt Maetzig, Günter Reisch", "Isiah Medina"]

    # Four hops: two films, then their directors; the sub-questions stand in the order of the evidences.
    older = questions["525d90d9086f11ebbd62ac1f6bf848b6"]
    assert (older.kind, older.hops, older.answers) == ("bridge_comparison", 4, ("Gang Bullets",))
    assert [(sub.subject, sub.relation, sub.answer) for sub in older.sub_questions] == [
        ("Solange Leben in mir ist", "director", "Günter Reisch"),
        ("Gang Bullets", "director", "Lambert Hillyer"),
        ("Günter Reisch", "date of birth", "24 November 1927"),
        ("Lambert Hillyer", "date of birth", "July 8, 1893"),
    ]
    assert [passage.title for passage in older.golden_passages] == [sub.subject for sub in older.sub_questions]
    assert [sub.golden_passage_id for sub in older.sub_questions] == [p.id for p in older.golden_passages]
    assert older.sub_questions[2].search_queries == (
        "Günter Reisch date of birth",
        "date of birth of Günter Reisch",
        "when was Günter Reisch born",
    )

    stepchild = questions["41611f820baf11ebab90acde48001122"]
    assert (stepchild.question, stepchild.kind) == ("Who is the stepchild of Paal Bog?", "inference")
    assert stepchild.answers == ("Øystein Gullvåg Holter",)
    assert [(sub.question, sub.answer) for sub in stepchild.sub_questions] == [
        ("Paal Bog >> spouse", "Harriet Holter"),
        ("Harriet Holter >> child", "Øystein Gullvåg Holter"),
    ]
    assert [passage.title for passage in stepchild.golden_passages] == ["Paal Bog", "Harriet Holter"]

    # Subjects under other names than their articles', linked by order.
    henneberg = questions["0404d2cc0bb011ebab90acde48001122"]
    titles = {passage.id: passage.title for passage in henneberg.golden_passages}
    assert [(sub.subject, titles[sub.golden_passage_id]) for sub in henneberg.sub_questions] == [
        ("Margaret of Henneberg", "Margaret of Holland, Countess of Henneberg"),
        ("Matilda of Brabant", "Matilda of Brabant, Countess of Holland"),
    ]
