import pytest

from stepsearch.preparation.annotation.vote import Ballot, Proposal, finds_one, vote
from stepsearch.search import GuardedSearch, SearchEngine
from stepsearch.types import Passage

GOLD = Passage("gold", "Ann Lee was born in Rome in 1901 and died in Paris.")
LIKE_GOLD = Passage("x", "Ann Lee was born in Rome in 1901 and died in Paris. She wrote.")


@pytest.mark.parametrize(
    ("answered", "found", "passes"),
    [
        (1, 0, False),
        (1, 1, True),
        (2, 1, True),
        (3, 1, False),
        (3, 2, True),
        (4, 2, True),
        (5, 2, False),
        (0, 0, False),
    ],
)
def test_half_of_the_engines_rounded_up_decide(answered, found, passes):
    assert Ballot(answered, found).passes is passes


@pytest.mark.parametrize(
    ("passage", "found"),
    [
        (Passage("gold", "whatever"), True),
        (Passage("x", GOLD.text), True),
        (LIKE_GOLD, True),
        (Passage("x", "Ann Lee was a writer."), False),
        (Passage("x", ""), False),
    ],
)
def test_a_golden_document_is_known_by_id_body_or_likeness(passage, found):
    assert finds_one([Passage("y", "Nothing."), passage], [GOLD]) is found


class Down(SearchEngine):
    def search(self, query, top_k=3):
        raise ConnectionError("down")


@pytest.fixture
def guarded(shelf):
    return lambda results: GuardedSearch(shelf(results))


def test_each_query_is_voted_on_for_its_own_documents(guarded):
    engines = {
        "a": guarded({"q1": [GOLD], "q2": ["else"], "q3": [GOLD]}),
        "b": guarded({"q1": [GOLD], "q3": ["else"]}),
        "c": guarded({"q3": ["else"]}),
    }
    proposals = [Proposal(("q1", "q2"), (GOLD,)), Proposal((), (GOLD,)), Proposal(("q3",), (Passage("other", "o"),))]
    assert vote(proposals, engines, 3) == [(Ballot(3, 2), Ballot(3, 0)), (), (Ballot(3, 0),)]


def test_an_engine_that_is_down_has_no_vote(guarded):
    down = GuardedSearch(Down(), retries=0)
    assert vote([Proposal(("q",), (GOLD,))], {"a": guarded({"q": [GOLD]}), "b": down}, 3) == [(Ballot(1, 1),)]
    assert vote([Proposal(("q",), (GOLD,))], {"b": down}, 3) == [(Ballot(0, 0),)]


def test_only_the_first_documents_count(guarded):
    engine = guarded({"q": ["one", "two", GOLD]})
    assert vote([Proposal(("q",), (GOLD,))], {"a": engine}, 2) == [(Ballot(1, 0),)]
    assert vote([Proposal(("q",), (GOLD,))], {"a": engine}, 3) == [(Ballot(1, 1),)]


def test_queries_go_in_one_batch(shelf):
    engine = shelf({})
    vote([Proposal(("q1", "q2"), (GOLD,)), Proposal(("q3",), (GOLD,))], {"a": GuardedSearch(engine)}, 3)
    assert engine.asked == [["q1", "q2", "q3"]]
