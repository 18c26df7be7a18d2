"""The figures of an evaluation for TensorBoard, under the names that training logs its own by."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from stepsearch.evaluation.figures import MethodFigures


def write_tensorboard(folder: Path, results: Mapping[str, Mapping[str, MethodFigures]]) -> None:
    """Write every figure, in place of those that the folder holds: a model is one point, of step 0.

    `eval/<dataset>/<figure>` is the first method's, as in training; the others' stand in runs of their own, so that
    TensorBoard draws them on the same chart.

    Args:
        folder: one run of TensorBoard per method.
        results: dataset to method to figures.
    """
    # Imported here: slow to import, and of no use to other commands.
    from torch.utils.tensorboard.writer import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    for method in dict.fromkeys(name for methods in results.values() for name in methods):
        with SummaryWriter(str(folder / method)) as curves:
            for dataset, methods in results.items():
                for name, figure in methods[method].figures.items() if method in methods else ():
                    if figure.interval.value == figure.interval.value:
                        curves.add_scalar(f"eval/{dataset}/{name}", figure.interval.value, 0)
