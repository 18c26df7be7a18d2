"""Figures of a comparison that a person can check."""

from pathlib import Path

import pytest

from stepsearch.evaluation.comparison import BEFORE, LEARNING, RunResult, compare_runs
from stepsearch.evaluation.comparison_tables import comparison_markdown, notes
from stepsearch.evaluation.curve_plots import plot_curves
from stepsearch.evaluation.scores import QuestionScores, read_scores, write_scores

CURVE = [
    {"step": 0, "eval/musique/em": 0.2},
    {"step": 1, "reward/answer": 0.3},
    {"step": 2, "reward/answer": 0.4, "eval/musique/em": 0.6},
    {"step": 4, "reward/answer": 0.5, "eval/musique/em": 0.6},
]


def scores(em: list[float], hops: list[int | None] | None = None, ids: str = "abcd") -> QuestionScores:
    count = len(em)
    return QuestionScores(
        ids=list(ids),
        hops=hops or [2, 2, 3, 3],
        em=em,
        f1=em,
        searches=[1, 2, 3, 4],
        golden_recall=[1.0, 0.5, None, None],
        retrieved=[1, 2, 3, 4],
        repeated=[0, 0, 0, 5],
        well_formed=[1] * count,
    )


def run(seed: int, method: str, em: list[float], curve: list[dict[str, float]] = CURVE, ids: str = "abcd") -> RunResult:
    return RunResult(seed, method, scores(em, ids=ids), scores([0.0] * 4, ids=ids), curve)


def test_figures_of_one_seed() -> None:
    comparison = compare_runs([run(0, "a", [1, 0, 1, 1])], [], ["a"])
    values = {name: figure.interval.value for name, figure in comparison.figures["a"].items()}
    assert values == pytest.approx(
        {
            "em": 0.75,
            "em_2_hops": 0.5,
            "em_3_hops": 1.0,
            "em_sampled": 0.0,
            "f1": 0.75,
            "golden_recall": 0.75,
            "searches_per_question": 2.5,
            "redundancy": 0.5,
            "format_rate": 1.0,
            LEARNING: 0.5,
        }
    )
    assert comparison.differences == {}
    assert "questions alone" in comparison.covers


def test_differences_are_by_seed_and_question() -> None:
    better, worse = [1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]
    results = [run(seed, method, em) for seed in (0, 1) for method, em in (("a", better), ("b", worse))]
    comparison = compare_runs(results, [run(seed, BEFORE, [0] * 4, []) for seed in (0, 1)], ["a", "b"])
    difference = comparison.differences["b"]["em"]
    assert difference.interval.value == -0.25
    assert difference.per_seed == (-0.25, -0.25)
    # Question b alone differs: no resample can be in favour of the worse method.
    assert difference.interval.low < -0.25 < difference.interval.high <= 0
    assert comparison.differences["b"][LEARNING].interval.value == 0
    assert comparison.figures[BEFORE]["em"].interval.value == 0
    assert comparison.to_json()["figures"]["a"]["em"]["median"] == 0.75


def test_other_questions_are_not_compared_one_by_one() -> None:
    results = [run(0, "a", [1, 1, 1, 1]), run(0, "b", [0, 0, 0, 0], ids="efgh")]
    comparison = compare_runs(results, [], ["a", "b"])
    assert comparison.paired is False
    assert comparison.differences["b"].keys() == {LEARNING}
    assert comparison.figures["b"]["em"].interval.value == 0
    assert any("same questions" in note for note in notes(comparison))


def test_scores_come_back(tmp_path: Path) -> None:
    written = {"greedy": scores([1, 0, 0, 0])}
    write_scores(tmp_path / "scores.json", written)
    assert read_scores(tmp_path / "scores.json") == written


def test_the_report_has_what_a_reader_needs(tmp_path: Path) -> None:
    results = [run(seed, method, [1, 0, 1, 1]) for seed in (0, 1) for method in ("a", "b")]
    comparison = compare_runs(results, [], ["a", "b"])
    text = comparison_markdown(comparison, {"a": (), "b": ("reward.step_scale=0",)})
    assert "- `b`: `reward.step_scale=0`" in text
    assert "| median | .750 | .750 |" in text
    assert "| 0.5 | 2 (2 of 2) | 2 (2 of 2) |" in text
    assert "| 0.8 | never (0 of 2) | never (0 of 2) |" in text
    plot_curves(tmp_path / "curves.png", comparison)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
