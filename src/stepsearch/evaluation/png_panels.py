"""Pictures with a panel per figure, as PNG."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from stepsearch.data.whole_files import replacing

# Okabe and Ito's palette, which most colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def open_panels(count: int) -> tuple[Any, list[Any]]:
    """Return a figure and at least `count` panels of it, three in a row; those that are too many are blank."""
    # Imported here: slow to import, and of no use to other commands.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure: Any = Figure(figsize=(4.6 * columns, 3.3 * rows + 0.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels: list[Any] = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for empty in panels[count:]:
        empty.set_axis_off()
    return figure, panels


def save_png(figure: Any, path: Path) -> None:
    """Write a figure so that it is there as a whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    with replacing(path) as beside:
        # The name beside has another ending.
        figure.savefig(beside, format="png")
