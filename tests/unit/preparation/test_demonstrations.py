"""Scripted episodes: the protocol's grammar, the flaws that were asked for, and never a fact that was not read."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from stepsearch.config import WarmStartPhase
from stepsearch.errors import DataError
from stepsearch.preparation.demonstrations import Demonstration, DemonstrationWriter, Observed, ReadingDrills, Written
from stepsearch.protocol import Answer, Search, format_error, parse_turn
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.search.search_engine import SearchEngine
from stepsearch.types import Passage, Question, SubQuestion

BOOK = Passage("book", "Balnor is a novel written by Bela Tornir.", "Balnor")
AUTHOR = Passage("author", "Bela Tornir was born in Vilgol.", "Bela Tornir")
CITY = Passage("city", "Vilgol is a city whose mayor is Dora Kelmar.", "Vilgol")


def hop(subject: str, relation: str, answer: str, golden: Passage, *more_queries: str) -> SubQuestion:
    queries = (f"{subject} {relation}", *more_queries)
    return SubQuestion(f"{subject} >> {relation}", answer, queries, golden.id, subject, relation)


HOPS = (
    hop("Balnor", "author", "Bela Tornir", BOOK, "who wrote Balnor"),
    hop("Bela Tornir", "birthplace", "Vilgol", AUTHOR),
    hop("Vilgol", "mayor", "Dora Kelmar", CITY),
)
QUESTION = Question(
    "q", "Who is the mayor of the birthplace of the author of Balnor?", ("Dora Kelmar",), HOPS, (BOOK, AUTHOR, CITY)
)


class Shelf(SearchEngine):
    """Finds the passage whose title stands in the query, and remembers what it was asked."""

    def __init__(self, passages: Sequence[Passage] = (BOOK, AUTHOR, CITY)) -> None:
        self.passages = passages
        self.batches: list[list[str]] = []

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        return [passage for passage in self.passages if passage.title in query][:top_k]

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        self.batches.append(list(queries))
        return super().search_batch(queries, top_k)


def phase(**flaws: object) -> WarmStartPhase:
    return WarmStartPhase.model_validate({"kind": "demonstrations", "updates": 1, **flaws})


def write(flaws: WarmStartPhase, questions: Sequence[Question] = (QUESTION,), searches: int = 6) -> list[Demonstration]:
    writer = DemonstrationWriter(GuardedSearch(Shelf()), top_k=1, max_searches=searches)
    return writer.write(questions, flaws, random.Random(0))


def turns(demonstration: Demonstration) -> list[str]:
    return [segment.text for segment in demonstration.segments if isinstance(segment, Written)]


def queries(demonstration: Demonstration) -> list[str]:
    actions = map(parse_turn, turns(demonstration))
    return [action.query for action in actions if isinstance(action, Search)]


def test_hops_without_answers_state_none_and_the_last_answers_the_question() -> None:
    """As in a user's own items, which need no more than sub-questions and queries."""
    hops = tuple(SubQuestion("?", "", search_queries=sub.search_queries[:1]) for sub in HOPS)
    (episode,) = write(phase(stop_early=[1.0, 1.0]), [Question("q", "Who?", ("Dora Kelmar",), hops)])
    assert turns(episode) == [
        "<think> plan: fact, fact, fact</think><search> Balnor author</search>",
        "<think> plan: fact, fact</think><search> Bela Tornir birthplace</search>",
        "<think> plan: fact</think><search> Vilgol mayor</search>",
        "<think> fact is Dora Kelmar, so answer</think><answer> Dora Kelmar</answer>",
    ]


def test_a_clean_episode_word_by_word() -> None:
    (episode,) = write(phase())
    assert episode.question == QUESTION.question
    assert episode.segments == (
        Written("<think> plan: author, birthplace, mayor</think><search> Balnor author</search>"),
        Observed((BOOK,)),
        Written(
            "<think> author is Bela Tornir, then birthplace, mayor</think><search> Bela Tornir birthplace</search>"
        ),
        Observed((AUTHOR,)),
        Written("<think> birthplace is Vilgol, then mayor</think><search> Vilgol mayor</search>"),
        Observed((CITY,)),
        Written("<think> mayor is Dora Kelmar, so answer</think><answer> Dora Kelmar</answer>"),
    )


@pytest.mark.parametrize("flaws", [phase(), phase(stop_early=(0.5, 0.5), repeat_query=0.5, vague_query=0.5)])
def test_every_episode_has_the_right_format(flaws: WarmStartPhase) -> None:
    for episode in write(flaws, [QUESTION] * 50):
        searches = len(queries(episode))
        assert format_error(turns(episode), searches) is None
        assert 1 <= searches <= 6
        kinds = [type(segment) for segment in episode.segments]
        assert kinds == [Written, Observed] * searches + [Written]


def test_stopping_early_answers_what_is_known_so_far() -> None:
    (episode,) = write(phase(stop_early=(0.0, 1.0)))
    assert queries(episode) == ["Balnor author", "Bela Tornir birthplace"]
    assert parse_turn(turns(episode)[-1]) == Answer("Vilgol")
    assert turns(episode)[-1] == "<think> birthplace is Vilgol, so answer</think><answer> Vilgol</answer>"


def test_a_vague_query_names_no_entity_and_is_followed_by_the_right_one() -> None:
    (episode,) = write(phase(vague_query=1.0))
    assert queries(episode) == [
        "author",
        "Balnor author",
        "birthplace",
        "Bela Tornir birthplace",
        "mayor",
        "Vilgol mayor",
    ]
    assert turns(episode)[1].startswith("<think> again: author, birthplace, mayor</think>")


def test_repeats_stay_within_the_searches_allowed_and_the_last_result_is_marked() -> None:
    for episode in write(phase(repeat_query=1.0), [QUESTION] * 30, searches=4):
        assert len(queries(episode)) == 4
        observed = [segment for segment in episode.segments if isinstance(segment, Observed)]
        assert [segment.was_last for segment in observed] == [False, False, False, True]
        assert isinstance(parse_turn(turns(episode)[-1]), Answer)


def test_max_hops_cuts_after_the_next_query_without_its_result() -> None:
    (episode,) = write(phase(max_hops=1))
    assert [type(segment) for segment in episode.segments] == [Written, Observed, Written]
    assert parse_turn(turns(episode)[-1]) == Search("Bela Tornir birthplace")
    (whole,) = write(phase(max_hops=3))
    assert isinstance(parse_turn(turns(whole)[-1]), Answer)


def test_another_reference_query_is_tried_and_what_cannot_be_found_is_left_out() -> None:
    second = hop("Novel of Tornir", "author", "Bela Tornir", BOOK, "author of Balnor")
    found = Question("a", "?", ("Bela Tornir",), (second,), (BOOK,))
    lost = Question("b", "?", ("Bela Tornir",), (hop("Nothing", "author", "Bela Tornir", BOOK),), (BOOK,))
    wrong = Question("c", "?", ("Somebody Else",), (hop("Balnor", "author", "Somebody Else", BOOK),), (BOOK,))
    bare = Question("d", "?", ("x",))
    (episode,) = write(phase(), [found, lost, wrong, bare])
    assert queries(episode) == ["Novel of Tornir author", "author of Balnor"]
    assert episode.segments[1] == Observed(())


def test_natural_sub_questions_use_their_reference_query_and_a_plain_thought() -> None:
    natural = SubQuestion("Who wrote Balnor?", "Bela Tornir", ("who wrote Balnor",), BOOK.id)
    (episode,) = write(phase(), [Question("n", "?", ("Bela Tornir",), (natural,), (BOOK,))])
    assert turns(episode) == [
        "<think> plan: fact</think><search> who wrote Balnor</search>",
        "<think> fact is Bela Tornir, so answer</think><answer> Bela Tornir</answer>",
    ]


def test_queries_go_out_in_batches_and_each_once() -> None:
    shelf = Shelf()
    writer = DemonstrationWriter(GuardedSearch(shelf), top_k=1, max_searches=6)
    for _ in range(2):
        writer.write([QUESTION] * 20, phase(), random.Random(0))
    assert shelf.batches == [["Balnor author"], ["Bela Tornir birthplace"], ["Vilgol mayor"]]


class Torn(Shelf):
    """A shelf that breaks down at one query, whoever else asks at the same time."""

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        if query == "Balnor author":
            raise RuntimeError("torn")
        return super().search(query, top_k)


def test_a_search_that_fails_finds_nothing_and_the_next_query_is_tried() -> None:
    writer = DemonstrationWriter(GuardedSearch(Torn(), retries=0), top_k=1, max_searches=6)
    (episode,) = writer.write([QUESTION], phase(), random.Random(0))
    assert queries(episode) == ["Balnor author", "who wrote Balnor", "Bela Tornir birthplace", "Vilgol mayor"]
    assert episode.segments[1] == Observed(())


def test_equal_seeds_write_equal_episodes() -> None:
    flaws = phase(stop_early=(0.5, 0.5), repeat_query=0.5, vague_query=0.5)
    assert write(flaws, [QUESTION] * 20) == write(flaws, [QUESTION] * 20)


def test_drills_recite_what_all_questions_say_of_a_passage() -> None:
    other = Question("o", "?", ("Kelmar Works",), (hop("Bela Tornir", "employer", "Kelmar Works", AUTHOR),), (AUTHOR,))
    drills = ReadingDrills([QUESTION, other]).write(60, random.Random(0))
    recitals = {turns(drill)[0] for drill in drills if drill.segments[:-1] == (Observed((AUTHOR,)),)}
    assert recitals == {
        "<think> birthplace is Vilgol, employer is Kelmar Works</think>",
        "<think> employer is Kelmar Works, birthplace is Vilgol</think>",
    }
    double = next(drill for drill in drills if len(drill.segments) == 3 and Observed((BOOK,)) in drill.segments)
    assert "Balnor author is Bela Tornir" in turns(double)[0]
    assert all(drill.question is None for drill in drills)


def test_drills_without_golden_passages_are_refused() -> None:
    with pytest.raises(DataError, match="the golden_id of one of the"):
        ReadingDrills([Question("q", "?", ("a",))])


def test_a_questions_id_is_in_no_demonstration() -> None:
    named = replace(QUESTION, id="3hop1__7_8_9")
    (demonstration,) = write(phase(stop_early=(0.0, 0.0)), [named])
    assert demonstration.question == QUESTION.question
    assert "hop" not in repr(demonstration)
    assert demonstration == write(phase(stop_early=(0.0, 0.0)))[0]
