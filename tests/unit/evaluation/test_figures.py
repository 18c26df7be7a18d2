"""Every figure of an evaluation, by numbers that a person can check."""

import math
from dataclasses import replace
from itertools import combinations

import pytest

from stepsearch.evaluation.figures import measure_methods, pass_at_k
from stepsearch.evaluation.metrics import EpisodeScore, score_episode
from stepsearch.evaluation.paired import PairedResult
from stepsearch.evaluation.result_tables import figures_sheet, paired_sheet
from stepsearch.types import FormatError, Passage, Question, SearchStep, StopReason, Trajectory

GOLD = (Passage("g1", "one"), Passage("g2", "two"))
OTHER = Passage("x", "other")


def score(
    name: str,
    answer: str | None,
    *found: tuple[Passage, ...],
    hops: int | None = None,
    kind: str = "",
    golden: tuple[Passage, ...] = GOLD,
    reason: StopReason = StopReason.ANSWERED,
    tokens: int = 0,
) -> EpisodeScore:
    """The score of an episode whose searches found these passages; the right answer is "right"."""
    trajectory = Trajectory(
        question=Question(name, "Who?", ("right",), golden_passages=golden, hops=hops, kind=kind),
        prompt_ids=(1,) * min(tokens, 1),
        response_ids=(2,) * tokens,
        response_mask=(1,) * (tokens // 4) + (0,) * (tokens - tokens // 4),
        rollout_logprobs=(0.0,) * tokens,
        steps=tuple(SearchStep("q", passages, 0) for passages in found),
        answer=answer,
        format_error=None if answer else FormatError.NO_ANSWER,
        stop_reason=reason,
    )
    return score_episode(trajectory)


def values(scores: list[EpisodeScore]) -> dict[str, tuple[float, int]]:
    figures = measure_methods({"model": scores}, resamples=20)["model"].figures
    return {name: (figure.interval.value, figure.count) for name, figure in figures.items()}


def graded(*right: int) -> list[EpisodeScore]:
    """Scores of questions 0, 1, ... by whether they were answered right."""
    return [score(f"{index:04}", "right" if of else "wrong") for index, of in enumerate(right)]


def binomial_quantile(share: float, trials: int, chance: float) -> int:
    """The smallest count with at least that probability at or below it."""
    total = 0.0
    for count in range(trials + 1):
        total += math.comb(trials, count) * chance**count * (1 - chance) ** (trials - count)
        if total >= share:
            return count
    return trials


@pytest.mark.parametrize(("right", "count"), [(60, 200), (10, 40), (195, 200)])
def test_an_interval_of_a_share_is_that_of_a_binomial(right: int, count: int) -> None:
    """A resample of n answers, a share p of them right, has Binomial(n, p) right ones: quantiles in closed form."""
    interval = measure_methods({"model": graded(*[1] * right, *[0] * (count - right))})["model"].figures["em"].interval
    low, high = (binomial_quantile(share, count, right / count) / count for share in (0.025, 0.975))
    assert interval.value == right / count
    assert interval.low == pytest.approx(low, abs=1.01 / count)
    assert interval.high == pytest.approx(high, abs=1.01 / count)


def test_the_width_is_that_of_the_normal_approximation() -> None:
    figure = measure_methods({"model": graded(*[1] * 300, *[0] * 700)})["model"].figures["em"]
    spread = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert (figure.interval.low, figure.interval.high) == pytest.approx((0.3 - spread, 0.3 + spread), abs=0.002)
    assert figure.count == 1000


def test_a_paired_difference_is_narrower_than_two_intervals_say() -> None:
    """300 questions: 30 that only B has right, 10 that only A has. Var = (b + c - (b - c)^2 / n) / n^2."""
    a = graded(*[1] * 100, *[1] * 10, *[0] * 30, *[0] * 160)
    b = graded(*[1] * 100, *[0] * 10, *[1] * 30, *[0] * 160)
    measured = measure_methods({"a": a, "b": list(reversed(b))})
    difference = measured["b"].difference["em"]
    spread = 1.96 * math.sqrt((40 - 20**2 / 300) / 300**2)
    assert difference.interval.value == pytest.approx(20 / 300)
    assert difference.interval.low == pytest.approx(20 / 300 - spread, abs=0.004)
    assert difference.interval.high == pytest.approx(20 / 300 + spread, abs=0.004)
    assert measured["a"].difference == {}


def test_methods_with_other_questions_are_not_compared() -> None:
    with pytest.raises(ValueError, match="the same questions"):
        measure_methods({"a": graded(1, 0), "b": graded(1)}, resamples=5)


@pytest.mark.parametrize(("samples", "right"), [(4, 0), (4, 1), (5, 2), (6, 6)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(samples: int, right: int) -> None:
    for k in range(1, samples + 1):
        subsets = list(combinations([1] * right + [0] * (samples - right), k))
        assert pass_at_k(samples, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_several_episodes_of_a_question_are_one_question() -> None:
    scores = [score(name, answer) for name, answers in {"a": "rrww", "b": "wwww"}.items() for answer in answers]
    scores = [score(of.id, "right" if index < 2 else "wrong") for index, of in enumerate(scores)]
    found = values(scores)
    assert found["em"] == found["avg@4"] == (0.25, 2)
    # Question a: 2 of 4 right, so 5 of its 6 pairs have a right one. Question b has none.
    assert found["pass@2"] == (pytest.approx(5 / 12), 2)
    assert found["pass@4"] == (0.5, 2)
    measured = measure_methods({"model": scores}, resamples=20)["model"]
    assert (measured.questions, measured.episodes) == (2, 8)
    assert "pass@2" not in values(graded(1, 0))


def test_searching_too_long_and_too_little() -> None:
    found = values(
        [
            # All golden documents after the first search, then two more.
            score("long", "right", GOLD, (OTHER,), (OTHER,)),
            # Answered with half of them.
            score("short", "right", (GOLD[0],), (OTHER,)),
            # Has half of them and does not answer.
            score("silent", None, (GOLD[0],), reason=StopReason.CONTEXT_FULL),
            score("just", "wrong", (GOLD[0],), (GOLD[1],)),
            score("unknown", "right", (OTHER,), golden=()),
        ]
    )
    assert found["over_search"] == (0.25, 4)
    assert found["superfluous_searches"] == (0.5, 4)
    assert found["under_search"] == (0.25, 4)
    assert found["golden_recall"] == (0.75, 4)
    assert found["all_golden"] == (0.5, 4)
    # 5 of the 8 searches of questions with golden documents brought a new one.
    assert found["new_golden_searches"] == (5 / 8, 4)
    # One of 9 searches brought nothing but a document that was there before.
    assert found["redundant_searches"] == (1 / 9, 5)
    assert found["redundancy"] == (1 / 10, 5)
    assert found["searches_per_question"] == (9 / 5, 5)
    assert found["stop/context_full"] == (0.2, 5)
    assert found["format_rate"] == (0.8, 5)


def test_recall_after_each_search() -> None:
    scores = [score("a", "x", (GOLD[0],), (), GOLD), score("b", "x", GOLD), score("c", "x"), score("d", "x", golden=())]
    steps = measure_methods({"model": scores}, resamples=20)["model"].recall_by_step
    # After the first search .5, 1 and 0; b stays at 1; c never searched; d has nothing to find.
    assert [figure.interval.value for figure in steps] == pytest.approx([1.5 / 3, 1.5 / 3, 2 / 3])
    assert [figure.count for figure in steps] == [3, 3, 3]


def test_by_hops_and_by_type() -> None:
    scores = [
        score("a", "right", hops=2, kind="bridge"),
        score("b", "wrong", hops=2, kind="comparison"),
        score("c", "right", hops=3, kind="bridge"),
        score("d", "right"),
    ]
    measured = measure_methods({"model": scores}, resamples=20)["model"]
    by_hops = {hops: (of["em"].interval.value, of["em"].count) for hops, of in measured.by_hops.items()}
    by_kind = {kind: (of["em"].interval.value, of["em"].count) for kind, of in measured.by_kind.items()}
    assert by_hops == {2: (0.5, 2), 3: (1.0, 1)}
    assert by_kind == {"bridge": (1.0, 2), "comparison": (0.0, 1)}


def test_what_could_not_be_played_is_wrong_and_says_nothing_of_searching() -> None:
    failed = score("b", None, reason=StopReason.ERROR)
    measured = measure_methods({"model": [score("a", "right", GOLD), failed]}, resamples=20)["model"]
    assert measured.errors == 1
    assert (measured.figures["em"].interval.value, measured.figures["em"].count) == (0.5, 2)
    assert measured.figures["searches_per_question"].count == 1
    assert measured.figures["golden_recall"].interval.value == 1.0
    assert measured.figures["stop/error"].interval.value == 0.5
    assert [figure.interval.value for figure in measured.recall_by_step] == [1.0]


def test_tokens_are_counted_where_they_are_known() -> None:
    found = values([score("a", "right", tokens=40), score("b", "right")])
    assert found["sampled_tokens"] == (10, 1)
    assert found["observed_tokens"] == (30, 1)


def test_where_none_is_right_or_all_the_interval_is_wilsons() -> None:
    """Of n alike ones Wilson's reaches z^2 / (n + z^2) away: .2775 of 10, .3244 of 8 and .6576 of 2; z = 1.96."""
    scores = [score(f"{index}", "wrong", GOLD, hops=2 if index < 8 else 3) for index in range(10)]
    measured = measure_methods({"model": scores})["model"]
    figures = {"em": measured.figures["em"], "f1": measured.figures["f1"], "2 hops": measured.by_hops[2]["em"]}
    figures["3 hops"] = measured.by_hops[3]["em"]
    found = {name: (of.interval.value, of.interval.low, of.interval.high) for name, of in figures.items()}
    assert found["em"] == found["f1"] == pytest.approx((0, 0, 0.2775), abs=1e-4)
    assert found["2 hops"] == pytest.approx((0, 0, 0.3244), abs=1e-4)
    assert found["3 hops"] == pytest.approx((0, 0, 0.6576), abs=1e-4)
    recall = measured.recall_by_step[0].interval
    assert (recall.value, recall.low, recall.high) == pytest.approx((1, 1 - 0.2775, 1), abs=1e-4)
    # Not a share: one search in each.
    searches = measured.figures["searches_per_question"].interval
    assert (searches.value, searches.low, searches.high) == (1, 1, 1)
    rows = {row[0]: row[1] for row in figures_sheet("", {"model": measured}).rows}
    assert (rows["EM"], rows["EM, 2 hops"]) == (".000  .000–.278", ".000  .000–.324 (8)")
    assert rows["golden recall"] == "1.00  .722–1.00"


def test_several_episodes_without_a_right_one_are_as_many_questions_as_they_are() -> None:
    scores = [score(name, "wrong") for name in "aabb"]
    figures = measure_methods({"model": scores})["model"].figures
    for name in ("em", "avg@2", "pass@2"):
        assert figures[name].interval.high == pytest.approx(0.6576, abs=1e-4)


def test_wall_time_has_no_interval() -> None:
    """A batch of two took 3 s, one of another method 1 s: that says nothing of how questions differ."""
    timed = {
        name: [replace(of, latency_seconds=seconds) for of in graded(1, 0)]
        for name, seconds in (("a", 1.5), ("b", 0.5))
    }
    measured = measure_methods(timed, resamples=20)
    taken = measured["a"].to_json()["figures"]["latency_seconds"]
    assert taken == {"value": 1.5, "low": None, "high": None, "count": 2}
    difference = measured["b"].difference["latency_seconds"].to_json()
    assert difference == {"value": -1.0, "low": None, "high": None, "count": 2}
    rows = {row[0]: row[1:] for row in figures_sheet("", measured).rows}
    assert rows["seconds per question"] == ["1.50", ".500"]
    result = PairedResult(measured["a"], measured["b"], 0, 0, p_value=1.0)
    rows = {row[0]: row[1:] for row in paired_sheet("", result, "A", "B").rows}
    assert rows["seconds per question"] == ["1.50", ".500", "-1.00"]


def test_what_nothing_has_is_null() -> None:
    record = measure_methods({"model": graded(1, 0)}, resamples=20)["model"].to_json()
    assert record["figures"]["judged"] == {"value": None, "low": None, "high": None, "count": 0}
    assert record["figures"]["em"]["count"] == 2
    assert record["recall_by_step"] == []
