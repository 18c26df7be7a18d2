"""Every figure of an evaluation with its 95 % interval, by hop count and type of question, and paired differences.

The unit that is resampled is the question, with all of its sampled episodes: their noise is in the interval, and
several episodes of a question are never taken for several questions. All methods see the same draws.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepsearch.evaluation.bootstrap import RESAMPLES, Interval, Numbers, Resampled, resample
from stepsearch.evaluation.metrics import EpisodeScore, wilson_interval
from stepsearch.types import StopReason

Terms = tuple[float, float]
"""What an episode adds to a figure's numerator and denominator; a denominator of 0 leaves the episode out."""
_OUT: Terms = (0.0, 0.0)


def _mean_of(value: float | None) -> Terms:
    return _OUT if value is None else (float(value), 1.0)


ANSWER_FIGURES: dict[str, Callable[[EpisodeScore], Terms]] = {
    "em": lambda score: (score.em, 1.0),
    "f1": lambda score: (score.f1, 1.0),
    "cover_em": lambda score: (score.cover_em, 1.0),
    "judged": lambda score: _mean_of(score.judged),
}
PROCESS_FIGURES: dict[str, Callable[[EpisodeScore], Terms]] = {
    "searches_per_question": lambda score: (score.searches, 1.0),
    "golden_recall": lambda score: _mean_of(score.golden_recall),
    "all_golden": lambda score: _mean_of(None if score.golden_recall is None else score.golden_recall == 1),
    "over_search": lambda score: _mean_of(None if score.superfluous is None else score.superfluous > 0),
    "superfluous_searches": lambda score: _mean_of(score.superfluous),
    "under_search": lambda score: _mean_of(
        None if score.golden_recall is None else score.answered and score.golden_recall < 1
    ),
    "new_golden_searches": lambda score: (score.new_golden, 0.0 if score.recall_by_step is None else score.searches),
    "redundant_searches": lambda score: (score.redundant, score.searches),
    "redundancy": lambda score: (score.repeated, score.retrieved),
    "failed_searches": lambda score: (score.failed, score.searches),
    "format_rate": lambda score: (score.well_formed, 1.0),
    "sampled_tokens": lambda score: _mean_of(score.sampled_tokens),
    "observed_tokens": lambda score: _mean_of(score.observed_tokens),
    "latency_seconds": lambda score: _mean_of(score.latency_seconds),
}
"""Of what was played; an episode that could not be is left out."""
# The episodes of a batch share its wall time: as numbers of questions they would seem far surer than they are.
_TIMING = "latency_seconds"
# Means over questions of numbers from 0 to 1.
_SHARES = frozenset({*ANSWER_FIGURES, "golden_recall", "all_golden", "over_search", "under_search", "format_rate"})


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval, over the `count` questions that have it; nan where there is none of either."""

    interval: Interval
    count: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; null where there is nothing."""
        numbers = {"value": self.interval.value, "low": self.interval.low, "high": self.interval.high}
        return {
            **{name: None if math.isnan(number) else number for name, number in numbers.items()},
            "count": self.count,
        }


Figures = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """What one method did on one dataset.

    Attributes:
        figures: by name.
        by_hops, by_kind: the same of the questions with as many hops, or of that type.
        recall_by_step: golden recall after the first search, the second, ...; an episode that stopped stays put.
        difference: this method minus the reference, paired over questions; empty for the reference.
        questions, episodes: how many were counted.
        errors: episodes that could not be played.
    """

    figures: Figures
    by_hops: Mapping[int, Figures]
    by_kind: Mapping[str, Figures]
    recall_by_step: tuple[Figure, ...]
    difference: Figures
    questions: int
    episodes: int
    errors: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "figures": _json(self.figures),
            "by_hops": {str(hops): _json(figures) for hops, figures in self.by_hops.items()},
            "by_kind": {kind: _json(figures) for kind, figures in self.by_kind.items()},
            "recall_by_step": [
                {"step": step, **figure.to_json()} for step, figure in enumerate(self.recall_by_step, 1)
            ],
            "errors": self.errors,
        }


def measure_methods(
    methods: Mapping[str, Sequence[EpisodeScore]], resamples: int = RESAMPLES
) -> dict[str, MethodFigures]:
    """Return the figures of every method.

    Args:
        methods: scores by name, at least one each; all of the same questions. The first is the reference.
        resamples: of the bootstrap.

    Raises:
        ValueError: a method has other questions than the first.
    """
    first = next(iter(methods))
    tables = {name: _Table.of(scores) for name, scores in methods.items()}
    if any(table.ids != tables[first].ids for table in tables.values()):
        raise ValueError("methods that are compared must have the same questions")
    drawn = {name: resample([table.above], [table.below], resamples=resamples) for name, table in tables.items()}
    reference = (tables[first], drawn[first])
    return {
        name: _figures_of(tables[name], drawn[name], methods[name], None if name == first else reference)
        for name in methods
    }


_Column = tuple[str, int | str | None, str]
"""Part ("all", "hops", "kind" or "step"), which of it, and figure."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Numerators and denominators, [questions, columns], sums over a question's episodes."""

    ids: list[str]
    columns: list[_Column]
    above: Numbers
    below: Numbers

    @classmethod
    def of(cls, scores: Sequence[EpisodeScore]) -> "_Table":
        questions: dict[str, list[EpisodeScore]] = {}
        for score in scores:
            questions.setdefault(score.id, []).append(score)
        ordered = dict(sorted(questions.items()))
        names, overall = _terms(list(ordered.values()))
        heads = [episodes[0] for episodes in ordered.values()]
        steps = max(len(score.recall_by_step or ()) for score in scores)
        parts: list[tuple[list[_Column], Numbers]] = [([("all", None, name) for name in names], overall)]
        for part, group, members in _groups(heads):
            parts.append(([(part, group, name) for name in names], overall * members[:, None, None]))
        if steps:
            columns: list[_Column] = [("step", step, "golden_recall") for step in range(1, steps + 1)]
            parts.append((columns, np.array([_recall_terms(of, steps) for of in ordered.values()])))
        terms = np.concatenate([part for _, part in parts], axis=1)
        return cls(list(ordered), [column for columns, _ in parts for column in columns], terms[..., 0], terms[..., 1])


def _terms(questions: Sequence[Sequence[EpisodeScore]]) -> tuple[list[str], Numbers]:
    """Return the figures' names and [questions, figures, 2] sums of numerators and of denominators."""
    reasons = {score.stop_reason for episodes in questions for score in episodes}
    rows = [_question_terms(episodes, [reason for reason in StopReason if reason in reasons]) for episodes in questions]
    return list(rows[0]), np.array([list(row.values()) for row in rows], dtype=np.float64)


def _question_terms(episodes: Sequence[EpisodeScore], reasons: Sequence[StopReason]) -> dict[str, Terms]:
    played = [score for score in episodes if score.played]
    terms = {name: _sum(map(figure, episodes)) for name, figure in ANSWER_FIGURES.items()}
    terms |= _repeated_terms([score.em for score in episodes])
    terms |= {name: _sum(map(figure, played)) for name, figure in PROCESS_FIGURES.items()}
    stops = {f"stop/{reason}": sum(score.stop_reason is reason for score in episodes) for reason in reasons}
    return terms | {name: (float(times), float(len(episodes))) for name, times in stops.items()}


def _repeated_terms(ems: Sequence[float]) -> dict[str, Terms]:
    """Return avg@n and pass@k of a question's n episodes for k = 2, 4, ... and n; nothing of a single one."""
    samples, right = len(ems), int(sum(ems))
    if samples == 1:
        return {}
    ks = sorted({2**power for power in range(1, samples.bit_length()) if 2**power <= samples} | {samples})
    passed = {f"pass@{k}": (pass_at_k(samples, right, k), 1.0) for k in ks}
    return {f"avg@{samples}": (right / samples, 1.0), **passed}


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Return the chance that of k episodes drawn without replacement one at least is right: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374), equation 1.

    Args:
        samples: n, how many there are.
        right: c, how many of them are right.
        k: at most n.
    """
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def _recall_terms(episodes: Sequence[EpisodeScore], steps: int) -> list[Terms]:
    """Return the terms of recall after each of so many searches."""
    curves = [score.recall_by_step for score in episodes if score.played and score.recall_by_step is not None]
    padded = [(*curve, *(curve[-1:] or (0.0,)) * (steps - len(curve))) for curve in curves]
    return [(sum(recalls), float(len(recalls))) for recalls in zip(*padded, strict=True)] or [_OUT] * steps


def _groups(heads: Sequence[EpisodeScore]) -> list[tuple[str, int | str, Numbers]]:
    """Return each group of questions with 1 for its members: those of a hop count, and those of a type."""
    hops = sorted({score.hops for score in heads if score.hops is not None})
    kinds = sorted({score.kind for score in heads if score.kind})
    members = [("hops", of, np.array([float(score.hops == of) for score in heads])) for of in hops]
    return [*members, *(("kind", of, np.array([float(score.kind == of) for score in heads])) for of in kinds)]


def _sum(terms: Any) -> Terms:
    listed = list(terms)
    return sum(above for above, _ in listed), float(sum(below for _, below in listed))


def _figures_of(
    table: _Table, drawn: Resampled, scores: Sequence[EpisodeScore], reference: tuple[_Table, Resampled] | None
) -> MethodFigures:
    found: dict[tuple[str, int | str | None], dict[str, Figure]] = {}
    difference: dict[str, Figure] = {}
    for index, (part, group, name) in enumerate(table.columns):
        counted = table.below[:, index] > 0
        figure = Figure(drawn.interval(index), int(counted.sum()))
        found.setdefault((part, group), {})[name] = _with_known_interval(figure, name)
        if reference and part == "all" and (part, group, name) in reference[0].columns:
            at = reference[0].columns.index((part, group, name))
            both = int((counted & (reference[0].below[:, at] > 0)).sum())
            changed = Figure(drawn.difference(index, at, reference[1]), both)
            difference[name] = _without_interval(changed) if name == _TIMING else changed
    return MethodFigures(
        figures=found["all", None],
        by_hops={int(group or 0): figures for (part, group), figures in found.items() if part == "hops"},
        by_kind={str(group): figures for (part, group), figures in found.items() if part == "kind"},
        recall_by_step=tuple(f["golden_recall"] for (part, _), f in found.items() if part == "step"),
        difference=difference,
        questions=len(table.ids),
        episodes=len(scores),
        errors=sum(not score.played for score in scores),
    )


def _with_known_interval(figure: Figure, name: str) -> Figure:
    """Return a figure with another interval where resampling questions tells nothing.

    Wall time has none, and a share that is 0 or 1 has Wilson's: all of its questions are alike, so that a resample has
    no width. Of numbers between 0 and 1 that of a 0 or 1 in each question is the widest.
    """
    value = figure.interval.value
    if name == _TIMING:
        return _without_interval(figure)
    if value in (0, 1) and (name in _SHARES or "@" in name or name.startswith("stop/")):
        low, high = wilson_interval(value, figure.count)
        # What rounding leaves of it must hold the value.
        return replace(figure, interval=Interval(value, min(low, value), max(high, value)))
    return figure


def _without_interval(figure: Figure) -> Figure:
    return replace(figure, interval=Interval(figure.interval.value, math.nan, math.nan))


def _json(figures: Figures) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in figures.items()}
