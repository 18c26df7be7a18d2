"""Write the report of an evaluation."""

import os
from collections.abc import Callable
from pathlib import Path

from stepsearch.errors import DataError
from stepsearch.evaluation.viewer.page import render_page
from stepsearch.evaluation.viewer.reading import find_predictions, read_summary, reward_settings
from stepsearch.evaluation.viewer.report_data import ReportData

FILE_NAME = "report.html"


def write_report(
    path: Path,
    results_dir: Path,
    beside: Path | None = None,
    training_logs: Path | None = None,
    *,
    on_episode: Callable[[int], None] = lambda count: None,
) -> None:
    """Write one self-contained page about the evaluation in `results_dir`; it is there as a whole or not at all.

    Args:
        path: the page.
        results_dir: has `predictions_<dataset>.jsonl`, and `evaluation_summary.json` for figures and settings.
        beside: results of another run, shown next to this one's on the same questions.
        training_logs: `logs` of a training run, for its curves and its logged episodes.
        on_episode: told how many further episodes have been read.

    Raises:
        DataError: a file is missing or cannot be read, or the page cannot be written.
    """
    data = ReportData()
    data.add_results(results_dir, "this", on_episode)
    if beside is not None:
        data.add_results(beside, "beside", on_episode)
    if training_logs is not None:
        data.add_training(training_logs, reward_settings(read_summary(results_dir), results_dir), on_episode)
    title = " and ".join(data.run_names())
    _write(path, render_page(f"{title} · StepSearch report", data.elements(title)))


def _write(path: Path, page: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(page)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from None


def count_episodes(results_dir: Path, beside: Path | None = None) -> int:
    """Return how many episodes the predictions of one run or two hold, for a bar that shows how far a report is.

    Raises:
        DataError: there are none.
    """
    folders = [folder for folder in (results_dir, beside) if folder is not None]
    return sum(_line_count(file.path) for folder in folders for file in find_predictions(folder))


def _line_count(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in lines)
