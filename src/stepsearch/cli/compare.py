"""`stepsearch compare`: several methods on several seeds, and what can be said of the difference."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from stepsearch.cli.comparison_jobs import LEDGER, SCORES, OwnQuestions, Run, Start
from stepsearch.cli.experiment import QuestionFiles
from stepsearch.cli.job_display import JobDisplay
from stepsearch.cli.job_processes import run_in_turn, run_side_by_side
from stepsearch.cli.methods import METHODS, Method, read_methods
from stepsearch.cli.progress import open_console, say
from stepsearch.cli.quickstart import default_config_file
from stepsearch.cli.versions import package_versions
from stepsearch.config import as_mapping
from stepsearch.data import read_questions
from stepsearch.data.whole_files import write_json, write_text
from stepsearch.errors import ConfigError, DataError
from stepsearch.evaluation.comparison import BEFORE, Comparison, RunResult, compare_runs
from stepsearch.evaluation.comparison_tables import comparison_markdown, comparison_tables, notes
from stepsearch.evaluation.curve_plots import plot_curves
from stepsearch.evaluation.scores import read_scores
from stepsearch.training.metric_log import METRICS
from stepsearch.training.preflight import check_settings
from stepsearch.training.processes import refuse_processes

REPORT, TABLES, CURVES = "comparison.json", "comparison.md", "curves.png"


def run(args: argparse.Namespace) -> None:
    """Run what is not finished, and report on all of it.

    Raises:
        StepSearchError: a method, a setting, a file or the output folder is wrong, or a run could not go on.
        KeyboardInterrupt: interrupted; the same command goes on.
    """
    refuse_processes("compare")
    console = open_console()
    runs = plan(args)
    methods = list(dict.fromkeys(run.method.name for run in runs))
    for line in dict.fromkeys(each.start.corpus_line() for each in runs if each.start.own is not None):
        say(console, line)
    for each in runs:
        if (each.folder / LEDGER).is_file():
            each.open_ledger()
    if args.report_only:
        runs = _of_whole_seeds(runs, args.output_dir, console)
    else:
        _check_folder(args.output_dir)
        try:
            perform(runs, args.jobs, console)
        except KeyboardInterrupt:
            say(
                console,
                "what is finished is kept; the same command goes on from the last checkpoints:",
            )
            say(console, f"  stepsearch {shlex.join(sys.argv[1:])}")
            raise
    comparison = compare_runs(_results(runs), _before(runs), methods)
    write_report(args.output_dir, comparison, runs)
    for table in comparison_tables(comparison):
        console.print(table)
    for note in notes(comparison):
        say(console, note)
    say(console, f"written to {args.output_dir}: {REPORT}, {TABLES}, {CURVES}")


def plan(args: argparse.Namespace) -> list[Run]:
    """Return every method on every seed, seed by seed; methods that agree in what a start depends on share one.

    Raises:
        StepSearchError: a method, a setting or a file is wrong.
    """
    config_file = args.config or default_config_file()
    named = args.methods or ([] if args.method else list(METHODS)[:2])
    methods = read_methods(named, args.method or [], config_file, args.overrides)
    for method in methods:
        check_settings(method.config)
    own = _own_questions(args)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    starts: dict[tuple[int, Path], Start] = {}
    runs: list[Run] = []
    for seed in seeds:
        for method in methods:
            config = method.config.model_copy(update={"seed": seed})
            start = Start(config, method.engine_asked, own, args.output_dir / f"seed-{seed}")
            runs.append(Run(method, config, starts.setdefault((seed, start.folder), start)))
    return runs


def perform(runs: Sequence[Run], processes: int, console: Console) -> None:
    """Run what is not finished.

    Raises:
        StepSearchError: a run could not go on.
        KeyboardInterrupt: interrupted.
    """
    jobs = in_order(runs)
    left = [job for job in jobs if not job.is_finished]
    display = JobDisplay(console, {job.label: job.weight for job in left}, len(jobs) - len(left))
    with display.running():
        if processes == 1 or len(left) == 1:
            run_in_turn(left, display)
        elif left:
            run_side_by_side(left, processes, display)


def in_order(runs: Sequence[Run]) -> list[Start | Run]:
    """Return all jobs, each start before the first run that needs it."""
    jobs: dict[str, Start | Run] = {}
    for each in runs:
        jobs.setdefault(str(each.start.folder), each.start)
        jobs[str(each.folder)] = each
    return list(jobs.values())


def write_report(folder: Path, comparison: Comparison, runs: Sequence[Run]) -> None:
    """Write `comparison.json`, `comparison.md` and `curves.png`, each whole or not at all."""
    methods: dict[str, Method] = {each.method.name: each.method for each in runs}
    record = {
        "methods": [{**method.to_json(), "config": as_mapping(method.config)} for method in methods.values()],
        **comparison.to_json(),
        "runs": [_run_json(each) for each in runs],
        "versions": package_versions(),
    }
    write_json(folder / REPORT, record)
    write_text(folder / TABLES, comparison_markdown(comparison, {m.name: m.settings for m in methods.values()}))
    plot_curves(folder / CURVES, comparison)


def _run_json(each: Run) -> dict[str, Any]:
    ledger = each.open_ledger()
    return {
        "seed": each.config.seed,
        "method": each.method.name,
        "folder": str(each.folder),
        "start": str(each.start.folder),
        "seconds": ledger.seconds,
        "cpu_seconds": ledger.cpu_seconds,
    }


def _own_questions(args: argparse.Namespace) -> OwnQuestions | None:
    """Return the user's files, all of which can be read; None for a generated world.

    Raises:
        ConfigError: one is named without another that it needs.
        DataError: a file cannot be read.
    """
    train, dev, test = args.musique_path, args.eval_musique_path, args.test_musique_path
    if train is None and (dev is not None or test is not None):
        raise ConfigError("--eval-musique-path and --test-musique-path need --musique-path: what is trained on")
    if train is None:
        return None
    if dev is None:
        raise ConfigError("--musique-path needs --eval-musique-path: the questions that choose the best checkpoint")
    for path in filter(None, (train, dev, test)):
        read_questions(path)
    return OwnQuestions.of(QuestionFiles(train, dev, test))


def _check_folder(folder: Path) -> None:
    """Refuse a folder with anything but a comparison in it.

    Raises:
        ConfigError: there is something else.
        DataError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = any(folder.iterdir()) and not any(folder.glob("seed-*"))
    except OSError as error:
        raise DataError(f"output folder {folder} cannot be made: {error.strerror}") from None
    if others:
        raise ConfigError(f"{folder} holds something else than a comparison: name another --output-dir")


def _of_whole_seeds(runs: Sequence[Run], folder: Path, console: Console) -> list[Run]:
    """Return the runs of the seeds on which every method is finished.

    Raises:
        DataError: there is no such seed.
    """
    missing = {each.config.seed: each.label for each in reversed(runs) if not each.is_finished}
    whole = [each for each in runs if each.config.seed not in missing]
    if not whole:
        raise DataError(f"{folder} has no seed with every method finished: run the same command without --report-only")
    for seed, label in sorted(missing.items()):
        say(console, f"seed {seed} is left out: {label} is not finished")
    return whole


def _results(runs: Sequence[Run]) -> list[RunResult]:
    results: list[RunResult] = []
    for each in runs:
        scores = read_scores(each.folder / "results" / SCORES)
        curve = _read_curve(each.folder / "logs" / METRICS)
        results.append(RunResult(each.config.seed, each.method.name, scores["greedy"], scores["sampled"], curve))
    return results


def _before(runs: Sequence[Run]) -> list[RunResult]:
    """Return the evaluation before training of every seed, if all methods began with the same policy."""
    starts = {(each.config.seed, each.start.folder) for each in runs}
    if len(starts) > len({seed for seed, _ in starts}):
        return []
    results: list[RunResult] = []
    for seed, folder in sorted(starts):
        scores = read_scores(folder / "results" / SCORES)
        results.append(RunResult(seed, BEFORE, scores["greedy"], scores["sampled"], ()))
    return results


def _read_curve(path: Path) -> list[dict[str, float]]:
    """Return a run's metrics, one entry per line.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        raise DataError(f"{path} cannot be read: delete its run's folder, and compare again") from None
