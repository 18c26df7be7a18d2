"""`stepsearch report`: an evaluation as one page for a browser."""

import argparse
from pathlib import Path

from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.errors import ConfigError
from stepsearch.evaluation.result_files import results_folder
from stepsearch.evaluation.viewer import write_report
from stepsearch.evaluation.viewer.report_page import FILE_NAME, count_episodes

PAGES = (".html", ".htm")


def run(args: argparse.Namespace) -> None:
    """Write the page, and say where it is.

    Raises:
        ConfigError: the output's name is not that of a page.
        DataError: a file is missing or cannot be read, or the page cannot be written.
    """
    console = open_console()
    results = results_folder(args.results)
    beside = None if args.beside is None else results_folder(args.beside)
    path: Path = args.output or results / FILE_NAME
    if path.suffix.lower() not in PAGES:
        raise ConfigError(f"--output {path}: the report is a page, so name a file that ends in .html")
    total = count_episodes(results, beside)
    progress = StageProgress(console, {"report": 1.0})
    with progress.running(), progress.stage("report", total) as advance:
        write_report(
            path,
            results,
            beside,
            args.training_logs,
            max_trajectories=args.max_trajectories,
            on_episode=advance,
        )
    say(console, f"written to {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser")
