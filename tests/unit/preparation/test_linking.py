from stepsearch.preparation.coverage import Located, Match
from stepsearch.preparation.linking import link
from stepsearch.types import Passage, Question, SubQuestion

UP, ANN, ROME = Passage("a", "up"), Passage("b", "ann"), Passage("c", "rome")
QUESTION = Question(
    id="q",
    question="?",
    answers=("x",),
    sub_questions=tuple(SubQuestion("?", "", (), golden) for golden in ("a", "b", "c", None)),
    golden_passages=(UP, ANN, ROME),
)


def where(match, *ids):
    return Located(match, frozenset(ids))


def test_ids_of_the_corpus_its_own_and_none():
    locations = {UP: where(Match.TEXT, "9", "7"), ANN: where(Match.ID, "b", "1"), ROME: where(Match.MISSING)}
    linked = link(QUESTION, locations)
    assert linked.golden_passages == (Passage("7", "up"), ANN, ROME)
    assert [sub.golden_passage_id for sub in linked.sub_questions] == ["7", "b", "c", None]


def test_two_golden_documents_that_are_one_passage():
    locations = {UP: where(Match.TEXT, "7"), ANN: where(Match.NEAR, "7"), ROME: where(Match.MISSING)}
    linked = link(QUESTION, locations)
    assert linked.golden_passages == (Passage("7", "up"), ROME)
    assert [sub.golden_passage_id for sub in linked.sub_questions] == ["7", "7", "c", None]
