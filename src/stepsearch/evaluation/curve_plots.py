"""Learning curves of a comparison as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepsearch.evaluation.bootstrap import Numbers
from stepsearch.evaluation.comparison import Comparison
from stepsearch.evaluation.png_panels import COLOURS, open_panels, save_png

TITLES = {
    "dev_em": "EM on dev questions, greedy",
    "answer_f1": "F1 of training episodes",
    "golden_recall": "golden recall of training episodes",
    "searches_per_question": "searches per question in training",
    "kl_to_reference": "KL to the reference",
    "format_rate": "format rate of training episodes",
}
# Where there are more methods than colours.
DASHES = ("-", "--", ":")


def plot_curves(path: Path, comparison: Comparison) -> None:
    """Write a PNG with a panel per curve and a line per method: the mean over seeds, in a band from least to most."""
    shown = [name for name in TITLES if any(name in curves for curves in comparison.curves.values())]
    figure, panels = open_panels(len(shown))
    for panel, name in zip(panels, shown, strict=False):
        for index, method in enumerate(comparison.methods):
            if name in comparison.curves[method]:
                # The first lines are the widest, so that one that the others hide still shows.
                width = 1.6 + 0.8 * (len(comparison.methods) - 1 - index)
                _draw(panel, comparison.curves[method][name], method, index, width)
        panel.set_title(TITLES[name], fontsize=11)
        panel.set_xlabel("step")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    figure.legend(
        *_legend(panels[: len(shown)]), loc="outside lower center", ncols=min(len(comparison.methods), 6), frameon=False
    )
    figure.suptitle(_caption(comparison), fontsize=11)
    save_png(figure, path)


def _draw(panel: Any, curve: tuple[list[int], Numbers], method: str, index: int, width: float) -> None:
    steps, values = curve
    style = {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}
    marker = "o" if len(steps) <= 20 else None
    # Every step has a value of some seed, so that no slice is all nan.
    panel.plot(steps, np.nanmean(values, axis=0), label=method, marker=marker, markersize=3, linewidth=width, **style)
    if len(values) > 1:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        panel.fill_between(steps, low, high, color=style["color"], alpha=0.12, linewidth=0)


def _legend(panels: list[Any]) -> tuple[list[Any], list[str]]:
    """Return every method's line once, wherever it is drawn first."""
    lines: Mapping[str, Any] = {
        label: line
        for panel in reversed(panels)
        for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    ordered = list(dict.fromkeys(label for panel in panels for label in panel.get_legend_handles_labels()[1]))
    return [lines[label] for label in ordered], ordered


def _caption(comparison: Comparison) -> str:
    if len(comparison.seeds) == 1:
        return f"seed {comparison.seeds[0]}"
    return f"mean over {len(comparison.seeds)} seeds; the band reaches from the lowest seed to the highest"
