"""Metrics of finished episodes, by numbers that a person can check."""

import json

import pytest

from stepsearch.evaluation.metrics import measure, score_episode, wilson_interval
from stepsearch.types import FormatError, Passage, Question, SearchStep, StopReason, Trajectory

GOLD = (Passage("g1", "one"), Passage("g2", "two"))
OTHER = Passage("x", "other")


def episode(
    answer: str | None,
    *found: tuple[Passage, ...] | None,
    hops: int | None = 2,
    golden: tuple[Passage, ...] = GOLD,
    error: FormatError | None = None,
) -> Trajectory:
    """An episode whose searches found these passages; None is a search that failed."""
    steps = tuple(
        SearchStep("q", passages or (), end_position=index, failed=passages is None)
        for index, passages in enumerate(found)
    )
    return Trajectory(
        question=Question("id", "Who?", ("Bela Tornir", "B. Tornir"), golden_passages=golden, hops=hops),
        prompt_ids=(1,),
        response_ids=(2,) * max(len(steps), 1),
        response_mask=(1,) * max(len(steps), 1),
        rollout_logprobs=(0.0,) * max(len(steps), 1),
        steps=steps,
        answer=answer,
        format_error=error,
        stop_reason=StopReason.ANSWERED if answer else StopReason.CONTEXT_FULL,
    )


def test_one_episode() -> None:
    score = score_episode(episode("the Bela", (GOLD[0], OTHER), (GOLD[0],), ()))
    assert (score.em, score.f1) == (0.0, pytest.approx(2 / 3))
    assert (score.searches, score.golden_recall) == (3, 0.5)
    # The second search brought nothing but the first one's; the third brought nothing, which repeats nothing.
    assert (score.retrieved, score.repeated, score.redundant) == (3, 1, 1)


def test_an_engine_that_returns_texts_finds_golden_documents_by_their_body() -> None:
    texts = tuple(Passage.from_text(passage.text) for passage in GOLD)
    metrics = measure([episode("x", texts[:1], texts, texts)])
    assert metrics.golden_recall == 1.0
    # The third search brought nothing golden that was not there before.
    assert (metrics.search.golden, metrics.search.judged) == (2, 3)


def test_without_golden_documents_recall_is_not_computed() -> None:
    assert score_episode(episode("x", (OTHER,), golden=())).golden_recall is None


def test_a_document_twice_in_one_result_is_no_repeat() -> None:
    assert score_episode(episode("x", (OTHER, OTHER))).repeated == 0


def test_means_and_what_they_are_over() -> None:
    metrics = measure(
        [
            episode("bela tornir.", (GOLD[0],), (GOLD[1],)),
            episode("B. Tornir", (GOLD[0],), (GOLD[0],), hops=3),
            episode(None, None, (), hops=3, error=FormatError.NO_ANSWER),
            episode("nobody", (OTHER,), hops=None, golden=()),
        ]
    )
    assert (metrics.count, metrics.em, metrics.f1) == (4, 0.5, 0.5)
    assert metrics.em_by_hops == {2: 1.0, 3: 0.5}
    assert metrics.count_by_hops == {2: 1, 3: 2}
    assert metrics.searches_per_question == 7 / 4
    assert (metrics.golden_recall, metrics.golden_recall_count) == ((1 + 0.5 + 0) / 3, 3)
    assert (metrics.redundancy, metrics.redundancy_count) == (1 / 5, 5)
    assert metrics.format_rate == 0.75
    assert metrics.stop_reasons == {"answered": 3, "context_full": 1}
    search = metrics.search
    assert (search.queries, search.failed, search.empty, search.golden, search.judged) == (7, 1, 1, 3, 6)
    assert search.redundant == 1
    assert search.success_rate == 0.5


def test_json_has_every_figure_and_plain_keys() -> None:
    record = json.loads(json.dumps(measure([episode("x")]).to_json()))
    assert record["em_by_hops"] == {"2": 0.0}
    assert record["redundancy"] is None
    assert record["search"]["success_rate"] is None


def test_wilson_interval_of_a_textbook_case() -> None:
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = wilson_interval(0.0, 10)
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high == pytest.approx(0.2775, abs=1e-4)
