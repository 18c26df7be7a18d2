"""Two evaluations of the same questions, checked against tests that are computed otherwise."""

import math
from pathlib import Path

import numpy as np
import pytest

from stepsearch.errors import DataError
from stepsearch.evaluation.evaluator import write_predictions
from stepsearch.evaluation.figures import measure_methods
from stepsearch.evaluation.metrics import score_episode
from stepsearch.evaluation.paired import compare_predictions, p_in_words, permutation_p_value, shared_files
from stepsearch.types import Question, StopReason, Trajectory


def exact_sign_test(better: int, worse: int) -> float:
    """McNemar's exact test: two-sided, of a fair coin thrown once for each question that differs."""
    trials, least = better + worse, min(better, worse)
    return min(1.0, 2 * sum(math.comb(trials, count) for count in range(least + 1)) / 2**trials)


def differences(better: int, worse: int, same: int = 50) -> np.ndarray:
    return np.array([1.0] * better + [-1.0] * worse + [0.0] * same)


@pytest.mark.parametrize(("better", "worse"), [(8, 2), (5, 0), (3, 4), (0, 0)])
def test_few_differences_are_gone_through(better: int, worse: int) -> None:
    expected = exact_sign_test(better, worse) if better + worse else 1.0
    assert permutation_p_value(differences(better, worse)) == pytest.approx(expected)


@pytest.mark.parametrize(("better", "worse"), [(21, 9), (40, 30), (60, 20)])
def test_many_differences_are_sampled(better: int, worse: int) -> None:
    assert permutation_p_value(differences(better, worse)) == pytest.approx(exact_sign_test(better, worse), abs=0.01)


def test_a_chance_is_never_nothing() -> None:
    assert permutation_p_value(differences(100, 0)) == pytest.approx(1 / 20_001)


def episodes(right: list[int], first: int = 0, text: str = "Who is {}?") -> list[Trajectory]:
    return [
        Trajectory(
            Question(str(index), text.format(index), ("right",)),
            *((), (), (), (), ()),
            answer="right" if of else "wrong",
            format_error=None,
            stop_reason=StopReason.ANSWERED,
        )
        for index, of in enumerate(right, first)
    ]


def written(path: Path, trajectories: list[Trajectory]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, trajectories)
    return path


def test_the_bootstrap_agrees_with_the_permutation_test() -> None:
    """Where the one calls a difference significant at 5 %, so does the other, but for what lies at the border."""
    rng = np.random.default_rng(5)
    agreed = decided = 0
    for _ in range(12):
        a = (rng.random(150) < 0.4).astype(int)
        b = np.where(rng.random(150) < 0.5, a, (rng.random(150) < rng.choice([0.4, 0.6])).astype(int))
        scores = {name: [score_episode(of) for of in episodes(list(right))] for name, right in (("a", a), ("b", b))}
        interval = measure_methods(scores, resamples=2_000)["b"].difference["em"].interval
        p_value = permutation_p_value((b - a).astype(float))
        if abs(p_value - 0.05) > 0.03:
            decided += 1
            agreed += (not interval.low <= 0 <= interval.high) == (p_value < 0.05)
    assert decided >= 8
    assert agreed == decided


def test_what_only_one_has_is_left_out_and_counted(tmp_path: Path) -> None:
    a = written(tmp_path / "a.jsonl", episodes([1, 0, 1, 1]))
    b = written(tmp_path / "b.jsonl", episodes([1, 0, 0], first=1))
    result = compare_predictions(a, b)
    # Shared are questions 1, 2 and 3: A has 0 1 1 right, B 1 0 0.
    assert (result.first.questions, result.only_first, result.only_second) == (3, 1, 0)
    assert result.second.difference["em"].interval.value == pytest.approx(-1 / 3)
    record = result.to_json()
    assert record["difference"]["em"]["value"] == pytest.approx(-1 / 3)
    assert record["em_p_value"] == 1.0


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    a = written(tmp_path / "a.jsonl", episodes([1, 0]))
    with pytest.raises(DataError, match="share no question"):
        compare_predictions(a, written(tmp_path / "b.jsonl", episodes([1], first=9)))
    with pytest.raises(DataError, match="question id 0 is another question"):
        compare_predictions(a, written(tmp_path / "c.jsonl", episodes([1], text="Where is {}?")))
    (tmp_path / "d.jsonl").write_text(a.read_text() + "{torn")
    with pytest.raises(DataError, match=r"d\.jsonl, line 3 is no prediction"):
        compare_predictions(a, tmp_path / "d.jsonl")


def test_files_are_found_by_dataset(tmp_path: Path) -> None:
    for name in (
        "a/results/predictions_musique.jsonl",
        "a/results/predictions_2wiki.jsonl",
        "b/predictions_2wiki.jsonl",
    ):
        written(tmp_path / name, episodes([1]))
    a, b = tmp_path / "a", tmp_path / "b"
    assert shared_files(a, b) == {"2wiki": (a / "results/predictions_2wiki.jsonl", b / "predictions_2wiki.jsonl")}
    one = a / "results/predictions_musique.jsonl"
    assert shared_files(one, b / "predictions_2wiki.jsonl") == {"musique": (one, b / "predictions_2wiki.jsonl")}
    with pytest.raises(DataError, match="no predictions of the same"):
        shared_files(one, b)
    with pytest.raises(DataError, match="has no predictions"):
        shared_files(a, tmp_path)


@pytest.mark.parametrize(
    ("p_value", "words"),
    [(1 / 20_001, "p < 0.0001"), (2 / 20_001, "p = 0.0001"), (0.0312, "p = 0.031"), (1.0, "p = 1")],
)
def test_a_p_value_that_swaps_cannot_tell_from_0_is_a_bound(p_value: float, words: str) -> None:
    assert p_in_words(p_value) == words
