"""Write the report of an evaluation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from stepsearch.data.whole_files import replacing, require_writable
from stepsearch.evaluation.result_files import find_predictions
from stepsearch.evaluation.viewer.page import render_page
from stepsearch.evaluation.viewer.reading import count_lines, read_summary, reward_settings
from stepsearch.evaluation.viewer.report_data import ReportData

FILE_NAME = "report.html"
# A page of 2,000 on MuSiQue's paragraphs has 13 MB.
MAX_TRAJECTORIES = 6_000


def write_report(
    path: Path,
    results_dir: Path,
    beside: Path | None = None,
    training_logs: Path | None = None,
    *,
    max_trajectories: int = MAX_TRAJECTORIES,
    on_episode: Callable[[int], None] = lambda count: None,
) -> None:
    """Write one self-contained page about the evaluation in `results_dir`; it is there as a whole or not at all.

    Args:
        path: the page.
        results_dir: has `predictions_<dataset>.jsonl`, and `evaluation_summary.json` for figures and settings.
        beside: results of another run, shown next to this one's on the same questions.
        training_logs: `logs` of a training run, for its curves and its logged episodes.
        max_trajectories: so many can be read on the page, the first ones of every file; figures are over all.
        on_episode: told how many further episodes have been read.

    Raises:
        DataError: a file is missing or cannot be read, or the page cannot be written.
    """
    require_writable(path)
    data = ReportData()
    runs = {"this": results_dir} if beside is None else {"this": results_dir, "beside": beside}
    per_file = even_share(list(_line_counts(runs.values())), max_trajectories)
    for run, folder in runs.items():
        data.add_results(folder, run, per_file, on_episode)
    if training_logs is not None:
        data.add_training(training_logs, reward_settings(read_summary(results_dir), results_dir), on_episode)
    title = " and ".join(data.run_names())
    with replacing(path) as beside:
        beside.write_bytes(render_page(f"{title} · StepSearch report", data.elements(title)))


def count_episodes(results_dir: Path, beside: Path | None = None) -> int:
    """Return how many episodes the predictions of one run or two hold, for a bar that shows how far a report is.

    Raises:
        DataError: there are none.
    """
    return sum(_line_counts([folder for folder in (results_dir, beside) if folder is not None]))


def _line_counts(folders: Iterable[Path]) -> Iterator[int]:
    for folder in folders:
        yield from (count_lines(file.path) for file in find_predictions(folder))


def even_share(sizes: Sequence[int], limit: int) -> int:
    """Return the most that every file may give, so that all together give at most `limit`; at least 1.

    It is the same for all, so that a question that can be read in one file can be read in the others.
    """
    left = limit
    for index, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - index)
        if size > share:
            return max(1, share)
        left -= size
    return max(1, *sizes)
