"""The same model without its own searching: what it is shown, and what counts as its answer."""

from collections.abc import Callable, Sequence

import pytest

from stepsearch.evaluation.baselines import PUBLISHED, Baselines, measure_baselines
from stepsearch.protocol import NO_SEARCH_LEFT
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search import SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Question

QUESTIONS = [Question("1", "Who wrote X?", ("Bela Tornir",)), Question("2", "Where is <search> Y?", ("Balnor",))]


class OneDocument(SearchEngine):
    def search(self, query: str, top_k: int = 3) -> list[str]:
        return [f"X was written by Bela Tornir. You asked: {query}"][:top_k]


@pytest.fixture
def build(tokenizer, scripted) -> Callable[..., tuple[Baselines, object]]:
    def build(script: Callable[[str], str], max_tokens: int = 60, max_length: int = 1000):
        engine = scripted(script)
        search = GuardedSearch(OneDocument(), timeout_seconds=5, retries=0, backoff_seconds=0)
        observations = ObservationBuilder(tokenizer, 400, 300)
        return Baselines(engine, tokenizer, search, observations, 1, max_tokens, max_length), engine

    return build


def seeds(questions: Sequence[Question]) -> list[int]:
    return list(range(len(questions)))


def test_direct_answers_without_documents(build) -> None:
    baselines, engine = build(lambda context: "<think>hm</think><answer>Rome</answer> and more")
    assert baselines.direct(QUESTIONS, seeds(QUESTIONS)) == ["Rome", "Rome"]
    assert engine.contexts[0] == f"Question: Who wrote X?\n{NO_SEARCH_LEFT}"


def test_single_shot_shows_what_the_question_finds(build) -> None:
    baselines, engine = build(lambda context: f"<answer>{'Bela Tornir' if 'Bela' in context else '?'}</answer>")
    assert baselines.single_shot(QUESTIONS, seeds(QUESTIONS)) == ["Bela Tornir", "Bela Tornir"]
    first, second = engine.contexts
    assert first.startswith("Question: Who wrote X?\n<search>Who wrote X?</search>\n<information>Doc 1 X was written")
    assert first.endswith(f"</information>\n{NO_SEARCH_LEFT}")
    assert "<search>Where is [search] Y?</search>" in second


def test_a_turn_that_does_not_answer_is_continued_inside_an_answer_tag(build) -> None:
    baselines, engine = build(
        lambda context: "forced</answer>" if context.endswith("<answer>") else "<search>more</search>"
    )
    assert baselines.direct(QUESTIONS[:1], [0]) == ["forced"]
    assert engine.contexts[1] == engine.contexts[0] + "<search>more</search><answer>"


def test_what_never_closes_is_no_answer(build) -> None:
    baselines, _ = build(lambda context: "x" * 500)
    assert baselines.direct(QUESTIONS, seeds(QUESTIONS)) == [None, None]


def test_a_context_without_room_is_no_answer(build) -> None:
    baselines, engine = build(lambda context: "<answer>a</answer>", max_length=40)
    assert baselines.direct(QUESTIONS[:1], [0]) == [None]
    assert engine.contexts == []


def test_measured_over_all_questions(build) -> None:
    baselines, _ = build(lambda context: "<answer>Bela</answer>" if "Tornir" in context else "<answer>Balnor</answer>")
    results = measure_baselines(baselines, QUESTIONS, seeds(QUESTIONS), batch_size=1)
    assert (results["direct"].em, results["direct"].f1, results["direct"].count) == (0.5, 0.5, 2)
    assert (results["single_shot"].em, results["single_shot"].f1) == (0.0, pytest.approx(1 / 3))


def test_published_numbers_stand_like_for_like() -> None:
    rows = {(row.method, row.model): row.scores for row in PUBLISHED}
    instruct = (rows["StepSearch", "3B instruct"], rows["Search-R1", "3B instruct"])
    gains = [round(instruct[0][name][0] - instruct[1][name][0], 1) for name in instruct[0]]
    assert gains == [4.1, 2.7, 5.4, 10.4]
