"""What a training run's metrics say step by step."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from stepsearch.evaluation.bootstrap import Numbers

Curve = Sequence[Mapping[str, float]]
"""A run's metrics, step by step, as `logs/metrics.jsonl` has them."""

CURVES = {
    "dev_em": "eval/em",
    "answer_f1": "reward/answer",
    "golden_recall": "rollout/golden_recall",
    "searches_per_question": "rollout/searches_per_question",
    "kl_to_reference": "policy/kl_to_reference",
    "format_rate": "rollout/format_rate",
}
"""Curve to the metric that it follows. `dev_em` is the mean over the dev data sets; the others but the KL are of the
training episodes, which are sampled."""


def dev_em(metrics: Mapping[str, float]) -> float:
    """Return the mean EM over a step's dev data sets; nan where the step has no evaluation."""
    values = [value for key, value in metrics.items() if key.startswith("eval/") and key.endswith("/em")]
    return sum(values) / len(values) if values else math.nan


def mean_over_training(curve: Curve, last_step: int) -> float:
    """Return the mean of dev EM over the steps up to `last_step`: the area under the line through its evaluations.

    A run that ended earlier is taken to have stayed where it was.
    """
    points = [(step["step"], dev_em(step)) for step in curve if not math.isnan(dev_em(step))]
    if len(points) < 2:
        return points[0][1] if points else math.nan
    steps, values = (list(part) for part in zip(*points, strict=True))
    grid = np.arange(steps[0], last_step + 1)
    return float(np.trapezoid(np.interp(grid, steps, values), grid) / max(last_step - steps[0], 1))


def first_step_with(curve: Curve, target: float) -> int | None:
    """Return the first evaluated step whose dev EM is at least the target."""
    return next((int(step["step"]) for step in curve if dev_em(step) >= target), None)


def curves_of(runs: Sequence[Curve]) -> dict[str, tuple[list[int], Numbers]]:
    """Return curve name to steps and values, [runs, steps], nan where a run has none at a step."""
    curves: dict[str, tuple[list[int], Numbers]] = {}
    for name, key in CURVES.items():
        of_seeds = [_points(run, name, key) for run in runs]
        steps = sorted(set().union(*of_seeds))
        if steps:
            curves[name] = (steps, np.array([[points.get(step, math.nan) for step in steps] for points in of_seeds]))
    return curves


def _points(curve: Curve, name: str, key: str) -> dict[int, float]:
    values = {int(step["step"]): dev_em(step) if name == "dev_em" else step.get(key, math.nan) for step in curve}
    return {step: value for step, value in values.items() if not math.isnan(value)}
