"""The policies without a model: what they ask, and the scores between which every model's lie."""

from pathlib import Path

import pytest

from stepsearch.data import read_benchmark
from stepsearch.evaluation.figures import MethodFigures, measure_methods
from stepsearch.evaluation.metrics import score_episode
from stepsearch.evaluation.scripted import NoSearchPolicy, ReferencePolicy
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import FormatError, Passage, Question, StopReason, SubQuestion

SAMPLES = {
    "musique": "musique_ans_v1.0_dev.sample100.jsonl",
    "hotpotqa": "hotpot_dev_distractor_v1.sample100.json",
    "2wiki": "2wikimultihop_dev.sample.json",
}

BOOK = Passage("b", "written by Bela Tornir", "The Book")
AUTHOR = Passage("a", "was born in Balnor", "Bela Tornir")
NOISE = Passage("n", "nothing")
HOPS = (
    SubQuestion("who wrote it", "Bela Tornir", ("Book author", "author of Book"), "b"),
    SubQuestion("born where", "Balnor", ("Tornir birthplace", "born Tornir"), "a"),
)
QUESTION = Question("1", "Where was the author born?", ("Balnor",), HOPS, (BOOK, AUTHOR))


def reference(shelf, results: dict, max_searches: int = 5) -> ReferencePolicy:
    search = GuardedSearch(shelf(results), timeout_seconds=5, retries=0, backoff_seconds=0)
    return ReferencePolicy(search, top_k=3, max_searches=max_searches)


def test_first_the_first_queries_then_those_of_hops_that_found_nothing(shelf) -> None:
    policy = reference(shelf, {"Book author": [NOISE], "Tornir birthplace": [AUTHOR], "author of Book": [BOOK]})
    [episode] = policy.run([QUESTION], [0])
    assert [step.query for step in episode.steps] == ["Book author", "Tornir birthplace", "author of Book"]
    assert (episode.answer, episode.stop_reason, episode.format_error) == ("Balnor", StopReason.ANSWERED, None)
    assert score_episode(episode).golden_recall == 1.0


def test_what_was_not_found_is_not_answered(shelf) -> None:
    [episode] = reference(shelf, {"Book author": [BOOK]}, max_searches=3).run([QUESTION], [0])
    assert len(episode.steps) == 3
    assert (episode.answer, episode.format_error) == (None, FormatError.NO_ANSWER)


def test_an_answer_that_stands_in_no_document_needs_all_golden_ones(shelf) -> None:
    question = Question("2", "Is it so?", ("yes",), HOPS, (BOOK, AUTHOR))
    found = {"Book author": [BOOK], "Tornir birthplace": [AUTHOR]}
    assert reference(shelf, found).run([question], [0])[0].answer == "yes"
    assert reference(shelf, {"Book author": [BOOK]}).run([question], [0])[0].answer is None


def test_a_question_without_sub_questions_is_its_own_query(shelf) -> None:
    question = Question("3", "Where was he born?", ("Balnor",))
    [episode] = reference(shelf, {"Where was he born?": [AUTHOR]}).run([question], [0])
    assert [step.query for step in episode.steps] == ["Where was he born?"]
    assert episode.answer == "Balnor"


def test_never_searching() -> None:
    [episode] = NoSearchPolicy().run([QUESTION], [0])
    assert (episode.answer, episode.steps, episode.format_error) == ("yes", (), FormatError.NO_SEARCH)


@pytest.fixture(scope="module")
def bounds(real_data: Path) -> dict[str, tuple[MethodFigures, MethodFigures]]:
    """Floor and ceiling of each genuine sample, searched with BM25 over all their contexts together."""
    benchmarks = {name: read_benchmark(real_data / file, name) for name, file in SAMPLES.items()}
    passages = [passage for benchmark in benchmarks.values() for passage in benchmark.passages]
    search = GuardedSearch(BM25SearchEngine.from_passages(passages), timeout_seconds=60, retries=0, backoff_seconds=0)
    policies = {"floor": NoSearchPolicy(), "ceiling": ReferencePolicy(search, top_k=3, max_searches=5)}
    found: dict[str, tuple[MethodFigures, MethodFigures]] = {}
    for name, benchmark in benchmarks.items():
        played = {key: of.run(benchmark.questions, []) for key, of in policies.items()}
        measured = measure_methods({key: list(map(score_episode, of)) for key, of in played.items()}, resamples=200)
        found[name] = measured["floor"], measured["ceiling"]
    return found


def test_floor_and_ceiling_of_the_genuine_samples(bounds) -> None:
    floors = {name: floor.figures["em"].interval.value for name, (floor, _) in bounds.items()}
    # 5 of 100 and 4 of 83 answers are "yes".
    assert floors == {"musique": 0.0, "hotpotqa": 0.05, "2wiki": pytest.approx(4 / 83)}
    ceilings = {name: ceiling.figures["em"].interval.value for name, (_, ceiling) in bounds.items()}
    assert ceilings["musique"] == pytest.approx(0.88, abs=0.03)
    assert ceilings["2wiki"] >= 0.97
    assert ceilings["hotpotqa"] >= 0.95
    for floor, ceiling in bounds.values():
        assert floor.figures["searches_per_question"].interval.value == 0
        assert floor.figures["under_search"].interval.value == 1
        assert ceiling.difference["em"].interval.low > 0.5
