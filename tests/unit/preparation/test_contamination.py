import json

from stepsearch.data.readers import read_benchmark
from stepsearch.preparation.audit_tables import contamination_lines
from stepsearch.preparation.contamination import SharedDocument, SharedQuestion, find_contamination
from stepsearch.types import Passage, Question

UP, ROME, OSLO = (Passage.from_text(f"{title} is here.", title) for title in ("Up", "Rome", "Oslo"))


def ask(number, question, *golden):
    return Question(id=number, question=question, answers=("x",), golden_passages=golden)


EVALUATION = [
    ask("e1", "Who wrote the Up?", UP, ROME),
    ask("e2", "Where is Oslo?", OSLO),
    ask("e3", "who wrote Up", UP),
]


def test_questions_and_golden_documents_of_the_training_set():
    other = Passage("0", "ROME  is here.", "Capital")
    found = find_contamination(
        EVALUATION, [ask("t1", "Who wrote up?!", other), ask("t2", "Else?"), ask("t3", "?", ROME)]
    )
    assert found.shared_questions == [SharedQuestion("Who wrote the Up?", ["e1", "e3"], ["t1"])]
    assert found.shared_documents == [SharedDocument("Rome", ["e1"], ["t1", "t3"])]
    assert (found.evaluation_questions, found.training_questions, found.evaluation_documents) == (3, 3, 3)
    assert (found.repeated, found.touched) == (2, 1)


def test_nothing_shared():
    found = find_contamination(EVALUATION, [])
    assert (found.repeated, found.touched, found.training_questions) == (0, 0, 0)


def test_what_is_reported():
    found = find_contamination(EVALUATION, [ask("t1", "Who wrote Up?", UP)])
    report = json.loads(json.dumps(found.to_json()))
    assert report["evaluation_questions_in_training"] == 2
    assert report["evaluation_questions_with_shared_documents"] == 2
    assert report["shared_questions"] == [
        {"question": "Who wrote the Up?", "evaluation_ids": ["e1", "e3"], "training_ids": ["t1"]}
    ]
    assert contamination_lines(found) == [
        "contamination: 2 of 3 evaluation questions stand among the 1 training questions",
        "contamination: 1 of 3 golden documents are golden for training questions too; 2 evaluation questions need one "
        "of them",
        "  e1, e3 = t1: Who wrote the Up?",
    ]


def test_a_genuine_sample_against_itself_and_another(real_data):
    musique = read_benchmark(real_data / "musique_ans_v1.0_dev.sample100.jsonl", "musique").questions
    two_wiki = read_benchmark(real_data / "2wikimultihop_dev.sample.json", "2wiki").questions
    assert find_contamination(musique, musique).repeated == 100
    found = find_contamination(musique, two_wiki)
    assert (found.repeated, found.shared_documents) == (0, [])
