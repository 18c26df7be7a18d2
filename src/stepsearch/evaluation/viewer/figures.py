"""The figures of a report's tables and plots: from the summary, or where there is none, from the episodes.

A cell is `{value, low, high, count}` with a 95 % interval; None is "not computed".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stepsearch.evaluation.figures import measure_methods
from stepsearch.evaluation.metrics import EpisodeScore

Cell = dict[str, Any]


def figures_of_summary(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a summary has of one dataset and method: figures, EM by hops and by kind, recall after each search.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is of another form.
    """
    return {
        "figures": _cells(entry["figures"]),
        "by_hops": _em_of(entry.get("by_hops") or {}),
        "by_kind": _em_of(entry.get("by_kind") or {}),
        "recall_by_step": [{"step": int(cell["step"]), **_cell(cell)} for cell in entry.get("recall_by_step") or ()],
        "difference": _cells(entry.get("difference") or {}),
    }


def figures_of_episodes(scores: Sequence[EpisodeScore]) -> dict[str, Any]:
    """Return the same from at least one episode."""
    return figures_of_summary(measure_methods({"": scores})[""].to_json())


def distributions(scores: Sequence[EpisodeScore]) -> dict[str, dict[str, int]]:
    """Return how many episodes took how many searches, and how many stopped why."""
    return {
        "searches": {str(count): n for count, n in sorted(Counter(score.searches for score in scores).items())},
        "stops": dict(Counter(str(score.stop_reason) for score in scores).most_common()),
    }


def _cells(figures: Mapping[str, Any]) -> dict[str, Cell]:
    return {name: _cell(figure) for name, figure in figures.items() if figure is not None}


def _em_of(groups: Mapping[str, Any]) -> dict[str, Cell]:
    return {name: _cell(figures["em"]) for name, figures in groups.items() if figures.get("em") is not None}


def _cell(figure: Mapping[str, Any]) -> Cell:
    return {name: figure.get(name) for name in ("value", "low", "high", "count")}
