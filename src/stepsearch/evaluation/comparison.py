"""What several seeds of several methods say: figures with intervals, paired differences, learning curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepsearch.evaluation.bootstrap import RESAMPLES, Interval, Numbers, Resampled, resample, resample_seeds
from stepsearch.evaluation.learning_curves import Curve, curves_of, first_step_with, mean_over_training
from stepsearch.evaluation.scores import QuestionScores

ENOUGH_SEEDS = 10
"""Below, a bootstrap over seeds is far too narrow; with ten, a tenth of the 95 % intervals of no difference miss 0."""
TARGETS = (0.5, 0.8)
"""Dev EM whose first step is reported."""
LEARNING = "dev_em_over_training"
BEFORE = "before"


@dataclass(frozen=True, slots=True)
class RunResult:
    """One method on one seed: scores after training with the best checkpoint, greedy and sampled, and the curve."""

    seed: int
    method: str
    greedy: QuestionScores
    sampled: QuestionScores
    curve: Curve


@dataclass(frozen=True, slots=True)
class FigureOverSeeds:
    """A figure of one method: the mean over seeds with its interval, and each seed's own; nan where there is none."""

    interval: Interval
    per_seed: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        defined = [value for value in self.per_seed if not math.isnan(value)]
        return {
            "mean": _plain(self.interval.value),
            "low": _plain(self.interval.low),
            "high": _plain(self.interval.high),
            "median": float(np.median(defined)) if defined else None,
            "min": min(defined, default=None),
            "max": max(defined, default=None),
            "per_seed": [_plain(value) for value in self.per_seed],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that is reported.

    Attributes:
        seeds: in order; `per_seed` lists follow it.
        methods: in order; the first is the reference.
        questions: per seed.
        figures: method, or `BEFORE`, to figure name to figure.
        differences: method to figure name to the paired difference to the reference.
        paired: whether all methods answered the same questions; without that there are no differences but in learning.
        steps_to: method to target to the first evaluated step with that dev EM, per seed; None where it never came.
        curves: method to curve name to steps and values, [seeds, steps], nan where a run has none.
    """

    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    questions: tuple[int, ...]
    figures: Mapping[str, Mapping[str, FigureOverSeeds]]
    differences: Mapping[str, Mapping[str, FigureOverSeeds]]
    paired: bool
    steps_to: Mapping[str, Mapping[float, tuple[int | None, ...]]]
    curves: Mapping[str, Mapping[str, tuple[list[int], Numbers]]]

    @property
    def reference(self) -> str:
        """The method that the others are compared with."""
        return self.methods[0]

    @property
    def covers(self) -> str:
        """What the intervals are about, in words."""
        if len(self.seeds) == 1:
            return "95 % intervals: bootstrap over questions alone, since there is one seed; they say nothing of others"
        few = ", too narrow with so few seeds (docs/comparing.md)" if len(self.seeds) < ENOUGH_SEEDS else ""
        return f"95 % intervals: bootstrap over {len(self.seeds)} seeds, then over the questions within each{few}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "seeds": list(self.seeds),
            "reference": self.reference,
            "questions": list(self.questions),
            "intervals": self.covers,
            "resamples": RESAMPLES,
            "paired": self.paired,
            "figures": {method: _figures_json(figures) for method, figures in self.figures.items()},
            "differences": {method: _figures_json(figures) for method, figures in self.differences.items()},
            "steps_to_dev_em": {
                method: {str(target): list(steps) for target, steps in targets.items()}
                for method, targets in self.steps_to.items()
            },
            "curves": {
                method: {
                    name: {"steps": steps, "per_seed": [[_plain(value) for value in row] for row in values]}
                    for name, (steps, values) in curves.items()
                }
                for method, curves in self.curves.items()
            },
        }


def compare_runs(results: Sequence[RunResult], before: Sequence[RunResult], methods: Sequence[str]) -> Comparison:
    """Return the comparison of methods on the same seeds.

    Args:
        results: every method on every seed.
        before: the evaluation before training of every seed, under the method name `BEFORE`; empty where the methods
            have not all begun with the same policy.
        methods: their order; the first is the reference.
    """
    seeds = sorted({result.seed for result in results})
    by_method = {method: _of_method(results, method, seeds) for method in methods}
    columns = by_method | ({BEFORE: _of_method(before, BEFORE, seeds)} if before else {})
    paired = all(len({tuple(runs[i].greedy.ids) for runs in columns.values()}) == 1 for i in range(len(seeds)))
    figures, differences = _question_figures(columns, methods[0], paired)
    learned, learned_differences = _learning_figures(by_method, methods[0])
    return Comparison(
        seeds=tuple(seeds),
        methods=tuple(methods),
        questions=tuple(len(run.greedy.ids) for run in by_method[methods[0]]),
        figures={name: {**of, **learned.get(name, {})} for name, of in figures.items()},
        differences={name: {**differences.get(name, {}), **learned_differences[name]} for name in methods[1:]},
        paired=paired,
        steps_to={name: _steps_to(runs) for name, runs in by_method.items()},
        curves={name: curves_of([run.curve for run in runs]) for name, runs in by_method.items()},
    )


def figure_terms(greedy: QuestionScores, sampled: QuestionScores) -> dict[str, tuple[list[float], list[float]]]:
    """Return numerators and denominators per question of every figure of an evaluation."""
    ones = [1.0] * len(greedy.ids)
    recalls = greedy.golden_recall
    by_hops = {
        f"em_{hops}_hops": (
            [em * (own == hops) for em, own in zip(greedy.em, greedy.hops, strict=True)],
            [float(own == hops) for own in greedy.hops],
        )
        for hops in sorted({hops for hops in greedy.hops if hops is not None})
    }
    return {
        "em": (greedy.em, ones),
        **by_hops,
        "em_sampled": (sampled.em, ones),
        "f1": (greedy.f1, ones),
        "golden_recall": ([recall or 0.0 for recall in recalls], [float(recall is not None) for recall in recalls]),
        "searches_per_question": ([float(count) for count in greedy.searches], ones),
        "redundancy": ([float(count) for count in greedy.repeated], [float(count) for count in greedy.retrieved]),
        "format_rate": ([float(well) for well in greedy.well_formed], ones),
    }


def _of_method(results: Sequence[RunResult], method: str, seeds: Sequence[int]) -> list[RunResult]:
    found = {result.seed: result for result in results if result.method == method}
    return [found[seed] for seed in seeds]


def _question_figures(
    columns: Mapping[str, Sequence[RunResult]], reference: str, paired: bool
) -> tuple[dict[str, dict[str, FigureOverSeeds]], dict[str, dict[str, FigureOverSeeds]]]:
    """Return figures of every column and, where the questions are the same, differences to the reference."""
    groups = [list(columns)] if paired else [[name] for name in columns]
    figures: dict[str, dict[str, FigureOverSeeds]] = {}
    differences: dict[str, dict[str, FigureOverSeeds]] = {}
    for group in groups:
        terms = [[figure_terms(run.greedy, run.sampled) for run in columns[name]] for name in group]
        names = list(dict.fromkeys(name for runs in terms for run in runs for name in run))
        resampled = _resampled(terms, names)
        per_seed = resampled.per_seed
        for index, column in enumerate(group):
            places = {name: index * len(names) + place for place, name in enumerate(names)}
            figures[column] = {
                name: FigureOverSeeds(resampled.interval(at), tuple(per_seed[:, at])) for name, at in places.items()
            }
            if paired and column not in (reference, BEFORE):
                base = group.index(reference) * len(names)
                differences[column] = {
                    name: FigureOverSeeds(
                        resampled.difference(at, base + place), tuple(per_seed[:, at] - per_seed[:, base + place])
                    )
                    for place, (name, at) in enumerate(places.items())
                }
    return figures, differences


def _resampled(
    terms: Sequence[Sequence[Mapping[str, tuple[list[float], list[float]]]]], names: Sequence[str]
) -> Resampled:
    """Lay figures of all methods side by side, [questions, methods * figures] per seed, and resample them together."""
    seeds = range(len(terms[0]))
    above, below = (
        [
            np.array([_column(method[seed], name, part) for method in terms for name in names], dtype=np.float64).T
            for seed in seeds
        ]
        for part in (0, 1)
    )
    return resample(above, below)


def _column(figures: Mapping[str, tuple[list[float], list[float]]], name: str, part: int) -> list[float]:
    return figures[name][part] if name in figures else [0.0] * len(figures["em"][part])


def _learning_figures(
    by_method: Mapping[str, Sequence[RunResult]], reference: str
) -> tuple[dict[str, dict[str, FigureOverSeeds]], dict[str, dict[str, FigureOverSeeds]]]:
    """Return mean dev EM over training of every method, and its difference to the reference; seeds are resampled.

    A method's training is as long as its longest run; steps of others may be larger or smaller.
    """
    last_steps = [max(int(step["step"]) for run in runs for step in run.curve) for runs in by_method.values()]
    means = np.array(
        [
            [mean_over_training(run.curve, last_step) for run in runs]
            for runs, last_step in zip(by_method.values(), last_steps, strict=True)
        ],
        dtype=np.float64,
    ).T
    resampled = resample_seeds(means)
    base = list(by_method).index(reference)
    figures: dict[str, dict[str, FigureOverSeeds]] = {}
    differences: dict[str, dict[str, FigureOverSeeds]] = {}
    for at, name in enumerate(by_method):
        figures[name] = {LEARNING: FigureOverSeeds(resampled.interval(at), tuple(means[:, at]))}
        differences[name] = {
            LEARNING: FigureOverSeeds(resampled.difference(at, base), tuple(means[:, at] - means[:, base]))
        }
    return figures, differences


def _steps_to(runs: Sequence[RunResult]) -> dict[float, tuple[int | None, ...]]:
    return {target: tuple(first_step_with(run.curve, target) for run in runs) for target in TARGETS}


def _figures_json(figures: Mapping[str, FigureOverSeeds]) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in figures.items()}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
