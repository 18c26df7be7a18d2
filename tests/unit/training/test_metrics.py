import pytest

from stepsearch.matching.tfidf import NO_STOP_WORDS
from stepsearch.search.guarded_search import SearchStatistics
from stepsearch.training.metrics import (
    coverage_metrics,
    random_gain_metrics,
    reward_metrics,
    rollout_metrics,
    search_metrics,
)
from stepsearch.types import FormatError, Passage, Question, SearchStep, StepReward, StopReason, TrajectoryReward


def test_rollout_metrics_are_means_over_episodes(make_trajectory) -> None:
    good = make_trajectory((1, 1, 0, 1))
    bad = make_trajectory(
        (1, 1), steps=(), format_error=FormatError.NO_ANSWER, stop_reason=StopReason.CONTEXT_FULL, corrections=1
    )
    metrics = rollout_metrics([good, bad], seconds=0.5)
    assert metrics["rollout/searches_per_question"] == 0.5
    assert metrics["rollout/format_rate"] == 0.5
    assert metrics["rollout/response_tokens"] == 3.0
    assert metrics["rollout/sampled_tokens"] == 2.5
    assert metrics["rollout/tokens_per_second"] == 10.0
    assert metrics["rollout/corrections"] == 0.5
    assert {key: share for key, share in metrics.items() if "/stop/" in key and share} == {
        "rollout/stop/answered": 0.5,
        "rollout/stop/context_full": 0.5,
    }


def test_reward_metrics_leave_out_what_was_not_computed() -> None:
    with_steps = TrajectoryReward(0.5, 0.5, 0.25, (StepReward(0.5, 0.75, 0.25), StepReward(0.0, 0.0, 0.0)), 1.0)
    without = TrajectoryReward(1.0, 1.0, None, None, None)
    metrics = reward_metrics([with_steps, without])
    assert metrics == {
        "reward/total": 1.0,
        "reward/outcome": 0.75,
        "reward/answer": 0.75,
        "reward/search_key": 0.25,
        "reward/information_gain": 0.75,
        "reward/redundancy_penalty": 0.25,
        "rollout/golden_recall": 1.0,
    }
    assert "reward/information_gain" not in reward_metrics([without])


def test_coverage_counts_questions_without_gold(make_trajectory) -> None:
    bare = make_trajectory(question=Question("q", "?", ("x",)))
    assert coverage_metrics([make_trajectory(), bare]) == {
        "reward/without_golden_documents": 0.5,
        "reward/without_reference_queries": 0.5,
    }


def test_random_gain_is_that_of_another_questions_documents(make_trajectory) -> None:
    # "golden text about a" and "... b" share three of their words of two letters or more, which is all there are.
    own = [make_trajectory(name="a"), make_trajectory(name="b")]
    assert random_gain_metrics(own, NO_STOP_WORDS) == {"reward/random_document_gain": pytest.approx(1.0)}
    strange = make_trajectory(name="b", steps=(SearchStep("q", (Passage("z", "nothing shared"),), 1),))
    assert random_gain_metrics([own[0], strange], NO_STOP_WORDS) == {"reward/random_document_gain": pytest.approx(0.5)}
    assert random_gain_metrics(own[:1], NO_STOP_WORDS) == {}


def test_search_metrics() -> None:
    assert search_metrics(SearchStatistics(8, 3, 1, 2.0)) == {
        "search/queries": 8.0,
        "search/cache_hits": 3.0,
        "search/failures": 1.0,
        "time/search": 2.0,
        "search/queries_per_second": 4.0,
    }
    assert "search/queries_per_second" not in search_metrics(SearchStatistics())
