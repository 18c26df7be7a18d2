"""The figures of a report's tables and plots: from the summary, and where it has none, from the episodes.

A cell is `{value, low, high, count}` with a 95 % interval, `low` and `high` None where there is none; None is
"not computed".
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepsearch.evaluation.metrics import wilson_interval
from stepsearch.types import Trajectory

Cell = dict[str, Any]
# Figures that a summary without `figures` holds, and the key of the number of things that each is a mean over.
_FLAT = {
    "em": "count",
    "f1": "count",
    "searches_per_question": "count",
    "golden_recall": "golden_recall_count",
    "redundancy": "redundancy_count",
    "format_rate": "count",
}


@dataclass(frozen=True, slots=True)
class Observed:
    """What one episode adds to figures; `recalls` is golden recall after each search, None without golden documents."""

    em: float
    f1: float
    hops: int | None
    searches: int
    well_formed: bool
    stop_reason: str
    recalls: Sequence[float] | None


def observe(trajectory: Trajectory, em: float, f1: float) -> Observed:
    """Return what an episode adds to figures."""
    return Observed(
        em=em,
        f1=f1,
        hops=trajectory.question.hops,
        searches=len(trajectory.steps),
        well_formed=trajectory.format_error is None,
        stop_reason=str(trajectory.stop_reason),
        recalls=_recalls(trajectory),
    )


def _recalls(trajectory: Trajectory) -> list[float] | None:
    golden = trajectory.question.golden_passages
    if not golden:
        return None
    found: set[str] = set()
    recalls: list[float] = []
    for step in trajectory.steps:
        ids = {passage.id for passage in step.passages}
        bodies = {passage.text for passage in step.passages}
        found |= {passage.id for passage in golden if passage.id in ids or passage.text in bodies}
        recalls.append(len(found) / len(golden))
    return recalls


def figures_of_summary(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a summary has of one dataset and method: figures, EM by hops and by kind, recall after each search.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is of another form.
    """
    return {
        "figures": _cells(entry["figures"]) if entry.get("figures") else _flat_figures(entry),
        "by_hops": _em_of(entry["by_hops"]) if entry.get("by_hops") else _flat_hops(entry),
        "by_kind": _em_of(entry.get("by_kind") or {}),
        "recall_by_step": [{"step": int(cell["step"]), **_cell(cell)} for cell in entry.get("recall_by_step") or ()],
        "difference": _cells(entry.get("difference") or {}),
    }


def _cells(figures: Mapping[str, Any]) -> dict[str, Cell]:
    return {name: _cell(figure) for name, figure in figures.items() if figure is not None}


def _em_of(groups: Mapping[str, Any]) -> dict[str, Cell]:
    return {name: _cell(figures["em"]) for name, figures in groups.items() if figures.get("em") is not None}


def _cell(figure: Mapping[str, Any]) -> Cell:
    return {name: figure.get(name) for name in ("value", "low", "high", "count")}


def _flat_figures(entry: Mapping[str, Any]) -> dict[str, Cell]:
    figures = {
        name: {"value": entry[name], "low": None, "high": None, "count": entry.get(count)}
        for name, count in _FLAT.items()
        if entry.get(name) is not None
    }
    if "em" in figures and entry.get("em_interval"):
        figures["em"]["low"], figures["em"]["high"] = entry["em_interval"]
    return figures


def _flat_hops(entry: Mapping[str, Any]) -> dict[str, Cell]:
    counts = entry.get("count_by_hops") or {}
    return {hops: _share(em, counts[hops]) for hops, em in (entry.get("em_by_hops") or {}).items() if hops in counts}


def figures_of_episodes(episodes: Sequence[Observed]) -> dict[str, Any]:
    """Return the same from at least one episode: Wilson's interval of shares, the normal one of other means."""
    hops = sorted({episode.hops for episode in episodes if episode.hops is not None})
    recalls = [episode.recalls for episode in episodes if episode.recalls is not None]
    cells = {
        "em": _mean(episode.em for episode in episodes),
        "f1": _mean(episode.f1 for episode in episodes),
        "golden_recall": _mean(recall[-1] if recall else 0.0 for recall in recalls) if recalls else None,
        "searches_per_question": _mean(float(episode.searches) for episode in episodes),
        "format_rate": _mean(float(episode.well_formed) for episode in episodes),
    }
    return {
        "figures": {name: cell for name, cell in cells.items() if cell is not None},
        "by_hops": {str(n): _mean(episode.em for episode in episodes if episode.hops == n) for n in hops},
        "by_kind": {},
        "recall_by_step": _recall_by_step(recalls),
        "difference": {},
    }


def distributions(episodes: Sequence[Observed]) -> dict[str, dict[str, int]]:
    """Return how many episodes took how many searches, and how many stopped why."""
    return {
        "searches": {str(count): n for count, n in sorted(Counter(episode.searches for episode in episodes).items())},
        "stops": dict(Counter(episode.stop_reason for episode in episodes).most_common()),
    }


def _recall_by_step(recalls: Sequence[Sequence[float]]) -> list[Cell]:
    """Return mean golden recall after each search; what an episode had found when it stopped counts further on."""
    longest = max(map(len, recalls), default=0)
    return [
        {"step": step, **_mean((recall[:step] or [0.0])[-1] for recall in recalls)} for step in range(1, longest + 1)
    ]


def _mean(values: Iterable[float]) -> Cell:
    listed = list(values)
    mean = math.fsum(listed) / len(listed)
    if set(listed) <= {0.0, 1.0}:
        return _share(mean, len(listed))
    spread = 1.96 * statistics.stdev(listed) / math.sqrt(len(listed)) if len(listed) > 1 else None
    return {
        "value": mean,
        "low": None if spread is None else mean - spread,
        "high": None if spread is None else mean + spread,
        "count": len(listed),
    }


def _share(share: float, count: int) -> Cell:
    low, high = wilson_interval(share, count)
    return {"value": share, "low": low, "high": high, "count": count}
