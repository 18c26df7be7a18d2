"""Figures of a learning curve that a person can check."""

import math

import pytest

from stepsearch.evaluation.learning_curves import dev_em, first_step_with, mean_over_training

CURVE = [
    {"step": 0, "eval/musique/em": 0.2},
    {"step": 1, "reward/answer": 0.3},
    {"step": 2, "reward/answer": 0.4, "eval/musique/em": 0.6},
    {"step": 4, "reward/answer": 0.5, "eval/musique/em": 0.6},
]


def test_the_mean_over_training_is_the_area_under_the_evaluations() -> None:
    # From .2 to .6 over two steps, then two steps at .6: (2 * .4 + 2 * .6) / 4.
    assert mean_over_training(CURVE, 4) == pytest.approx(0.5)
    # A run that ended at step 4 stays there: (.8 + 1.2 + 4 * .6) / 8.
    assert mean_over_training(CURVE, 8) == pytest.approx(0.55)
    assert mean_over_training(CURVE[:1], 0) == 0.2
    assert math.isnan(mean_over_training(CURVE[1:2], 4))


def test_the_first_step_with_an_em() -> None:
    assert first_step_with(CURVE, 0.5) == 2
    assert first_step_with(CURVE, 0.2) == 0
    assert first_step_with(CURVE, 0.8) is None
    assert dev_em({"eval/a/em": 0.2, "eval/b/em": 0.4, "eval/b/f1": 1.0}) == pytest.approx(0.3)
