"""The figures of an evaluation as pictures, with their intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepsearch.evaluation.figures import Figure, MethodFigures
from stepsearch.evaluation.png_panels import COLOURS, open_panels, save_png

Results = Mapping[str, Mapping[str, MethodFigures]]
"""Dataset to method to figures."""

EM_BY_HOPS, RECALL_BY_STEP, SEARCHES = "em_by_hops.png", "recall_by_step.png", "searches_per_question.png"


def plot_results(folder: Path, results: Results) -> list[Path]:
    """Write the pictures for which there is something to show, a panel per dataset, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    titles = {EM_BY_HOPS: "EM", SEARCHES: "searches per question"}
    figures = {EM_BY_HOPS: "em", SEARCHES: "searches_per_question"}
    written = [folder / EM_BY_HOPS, folder / SEARCHES]
    for path in written:
        name = figures[path.name]
        _plot(path, titles[path.name], results, lambda panel, of, figure=name: _draw_bars(panel, of, figure))
    with_recall = {name: of for name, of in results.items() if any(m.recall_by_step for m in of.values())}
    if with_recall:
        written.append(folder / RECALL_BY_STEP)
        _plot(written[-1], "golden recall after each search", with_recall, _draw_recall)
    return written


def _plot(path: Path, title: str, results: Results, draw: Callable[[Any, Mapping[str, MethodFigures]], None]) -> None:
    figure, panels = open_panels(len(results))
    for panel, (dataset, methods) in zip(panels, results.items(), strict=False):
        draw(panel, methods)
        panel.set_title(f"{dataset} ({next(iter(methods.values())).questions:,} questions)", fontsize=11)
        panel.grid(alpha=0.3, axis="y")
        panel.set_ylim(0, None if path.name == SEARCHES else 1.05)
    if any(len(methods) > 1 for methods in results.values()):
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    figure.suptitle(f"{title}, 95 % intervals", fontsize=11)
    save_png(figure, path)


def _draw_bars(panel: Any, methods: Mapping[str, MethodFigures], name: str) -> None:
    """Draw a group of bars for all questions, and one for each hop count or, where there are none, type."""
    groups = [_groups(of, name) for of in methods.values()]
    labels = list(groups[0])
    width = 0.8 / len(methods)
    for index, (method, of) in enumerate(zip(methods, groups, strict=True)):
        places = [place + (index - (len(methods) - 1) / 2) * width for place in range(len(labels))]
        figures = [of[label] for label in labels]
        heights = [_known(figure.interval.value) for figure in figures]
        panel.bar(places, heights, width, label=method, color=COLOURS[index % len(COLOURS)], alpha=0.75)
        panel.errorbar(places, heights, yerr=_reach(figures), fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    counts = list(groups[0].values())
    panel.set_xticks(range(len(labels)), [f"{label}\n({of.count:,})" for label, of in zip(labels, counts, strict=True)])


def _groups(measured: MethodFigures, name: str) -> dict[str, Figure]:
    parts = {f"{hops} hops": of for hops, of in measured.by_hops.items()} or dict(measured.by_kind)
    return {"all": measured.figures[name], **{label: of[name] for label, of in parts.items()}}


def _reach(figures: Sequence[Figure]) -> list[list[float]]:
    """Return how far the intervals reach below and above the values."""
    below = [_known(figure.interval.value - figure.interval.low) for figure in figures]
    above = [_known(figure.interval.high - figure.interval.value) for figure in figures]
    return [[max(reach, 0.0) for reach in below], [max(reach, 0.0) for reach in above]]


def _draw_recall(panel: Any, methods: Mapping[str, MethodFigures]) -> None:
    for index, (method, of) in enumerate(methods.items()):
        colour, steps = COLOURS[index % len(COLOURS)], range(1, len(of.recall_by_step) + 1)
        intervals = [figure.interval for figure in of.recall_by_step]
        panel.plot(steps, [i.value for i in intervals], label=method, color=colour, marker="o", markersize=3)
        low, high = [i.low for i in intervals], [i.high for i in intervals]
        panel.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        if len(intervals) == 1:
            panel.vlines(1, low, high, color=colour)
    panel.set_xticks(range(1, max(len(of.recall_by_step) for of in methods.values()) + 1))
    panel.set_xlabel("searches")


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value
