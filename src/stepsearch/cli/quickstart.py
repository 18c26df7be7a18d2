"""`stepsearch quickstart`: the whole pipeline on the embedded default, from a generated world to an answer."""

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stepsearch.cli.episode_printer import EpisodePrinter
from stepsearch.cli.experiment import (
    AFTER,
    BEFORE,
    DATA,
    GENERATED,
    RUN_SHARES,
    START_SHARES,
    TRAINING,
    WARM_START,
    WORLD,
    EpisodeFigures,
    Episodes,
    PredictionFiles,
    QuestionFiles,
    Stages,
    evaluate_model,
    make_world,
    prepare_data,
    start_warm,
    train_run,
)
from stepsearch.cli.players import use_threads
from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.cli.run_records import Origin, add_results, results_of, typed_command
from stepsearch.cli.searching import find_corpus
from stepsearch.cli.stage_ledger import StageLedger
from stepsearch.cli.starting_policy import load_saved
from stepsearch.cli.versions import package_versions
from stepsearch.config import Config, as_mapping, asked_keys, load_config
from stepsearch.data import read_questions
from stepsearch.data.whole_files import write_json
from stepsearch.errors import ConfigError, DataError
from stepsearch.evaluation.metrics import score_episode
from stepsearch.evaluation.metrics_table import figures_table
from stepsearch.models.model_folder import load_hf_tokenizer
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.progress import Advance
from stepsearch.training.checkpoints import check_unused
from stepsearch.training.preflight import check_settings
from stepsearch.training.processes import refuse_processes
from stepsearch.training.run_folder import RunFolder
from stepsearch.types import Trajectory

COLUMNS = {"before": "warm start", "after": "StePPO"}
# A golden recall that stray hits give, too.
_ABOUT_NOTHING = 0.05


def run(args: argparse.Namespace) -> None:
    """Run every stage that is not finished, print what came out and write `summary.json`.

    Raises:
        StepSearchError: a setting or the output folder is wrong, or training could not go on.
    """
    refuse_processes("quickstart")
    config_file = args.config or default_config_file()
    config = load_config(config_file, args.overrides)
    check_settings(config)
    use_threads(config)
    console = open_console()
    folder = RunFolder.at(args.output_dir)
    ledger_file = folder.root / "quickstart.json"
    if not args.resume and ledger_file.is_file():
        raise ConfigError(
            f"{folder.root} holds an earlier quickstart: go on with it, or see its results again, by --resume; or name "
            "another --output-dir"
        )
    if not ledger_file.is_file():
        check_unused(folder.checkpoints)
    ledger = StageLedger(ledger_file, as_mapping(config), args.resume)
    engine_asked = "search.engine_type" in asked_keys(config_file, args.overrides)
    progress = StageProgress(console, {**START_SHARES, **RUN_SHARES})
    with progress.running():
        before, after = Quickstart(config, folder, engine_asked, typed_command(args.typed)).run(
            Stages(ledger, progress)
        )
    figures = {"before": before.measure(), "after": after.measure()}
    for model, measured in ((folder.checkpoints / "warm_start", "before"), (folder.best_model, "after")):
        add_results(model, results_of(GENERATED, figures[measured].greedy))
    summary = summarise(config, ledger, figures)
    write_json(folder.root / "summary.json", summary)
    console.print(results_table(config.seed, ledger, figures))
    show_one_answer(after.greedy, ModelTokenizer(load_hf_tokenizer(str(folder.best_model))), console)
    say(console, closing_words(summary, folder))
    if start_was_too_short(summary):
        recall = summary["before"]["golden_recall"]
        say(
            console,
            f"the warm start learned nothing to reward (EM before 0, golden recall {recall:.2f}): give it more updates "
            "(warm_start.phases)",
        )


def default_config_file() -> Path:
    """Return `config/tiny.yaml` of the source tree, or the copy that an installed package carries."""
    here = Path(__file__)
    for candidate in (here.parents[3] / "config" / "tiny.yaml", here.parent / "tiny.yaml"):
        if candidate.is_file():
            return candidate
    raise DataError("config/tiny.yaml is not where it should be: name it with --config FILE")


class Quickstart:
    """The stages, each leaving its result on disk, where the next one finds it.

    Args:
        config: all settings.
        folder: the run.
        engine_asked: whether the user named the search engine.
        command: as it was typed.
    """

    def __init__(self, config: Config, folder: RunFolder, engine_asked: bool, command: str) -> None:
        self._command = command
        self._config = config
        self._folder = folder
        self._engine_asked = engine_asked
        self._raw, data = folder.root / "raw", folder.root / "data"
        self._data = data
        self._files = QuestionFiles.beside(data)
        self._warm_start = folder.checkpoints / "warm_start"
        self._before = PredictionFiles.of(folder.results, "before")
        self._after = PredictionFiles.of(folder.results, "after")

    def run(self, stages: Stages) -> tuple[Episodes, Episodes]:
        """Run what is left to do; return the evaluation's episodes before and after training."""
        stages.run(WORLD, lambda advance, begun: make_world(self._raw, self._config))
        stages.run(DATA, lambda advance, begun: prepare_data(self._raw, self._data))
        stages.run(WARM_START, lambda advance, begun: self._start_warm(advance))
        stages.run(BEFORE, lambda advance, begun: self._evaluate(self._warm_start, self._before, advance))
        stages.run(TRAINING, lambda advance, begun: self._train(begun, advance))
        stages.run(AFTER, lambda advance, begun: self._evaluate(self._folder.best_model, self._after, advance))
        return self._before.read(), self._after.read()

    def _start_warm(self, advance: Advance) -> None:
        origin = Origin(self._files.train, command=self._command)
        start_warm(self._searching_config(), read_questions(self._files.train), self._warm_start, advance, origin)

    def _train(self, begun: bool, advance: Advance) -> None:
        policy = load_saved(self._warm_start, self._config)
        train_run(self._searching_config(), self._files, policy, self._folder, begun, advance, self._command)

    def _evaluate(self, model: Path, files: PredictionFiles, advance: Advance) -> None:
        policy = load_saved(model, self._config)
        evaluate_model(self._searching_config(), policy, self._files.read_test(self._config), files, advance)

    def _searching_config(self) -> Config:
        settings, _ = find_corpus(self._config.search, self._files.train, self._engine_asked)
        return self._config.model_copy(update={"search": settings})


def summarise(config: Config, ledger: StageLedger, figures: Mapping[str, EpisodeFigures]) -> dict[str, Any]:
    """Return what `summary.json` holds."""
    return {
        "seed": config.seed,
        "seconds": sum(ledger.seconds.values()),
        "cpu_seconds": sum(ledger.cpu_seconds.values()),
        "peak_memory_mb": ledger.peak_memory_mb,
        **{when: measured.greedy.to_json() for when, measured in figures.items()},
        **{f"{when}_sampled": measured.sampled.to_json() for when, measured in figures.items()},
        "stages": ledger.seconds,
        "config": as_mapping(config),
        "versions": package_versions(),
    }


def start_was_too_short(summary: Mapping[str, Any]) -> bool:
    """Return whether no answer was right, before or after, and the warm start found next to nothing to be rewarded."""
    starts = [summary["before"], summary["before_sampled"]]
    is_right = any(figures["em"] for figures in (*starts, summary["after"], summary["after_sampled"]))
    return not is_right and all((figures["golden_recall"] or 0.0) < _ABOUT_NOTHING for figures in starts)


def results_table(seed: int, ledger: StageLedger, figures: Mapping[str, EpisodeFigures]) -> Table:
    """Return the figures before and after StePPO, with what each stage of training took."""
    columns = {COLUMNS[when]: measured.greedy for when, measured in figures.items()}
    table = figures_table(f"Questions about entities that training never saw (seed {seed})", columns)
    table.add_row("EM sampled at T = 1", *(f"{measured.sampled.em:.3f}" for measured in figures.values()))
    for label, taken in (("seconds of training", ledger.seconds), ("CPU-seconds of training", ledger.cpu_seconds)):
        table.add_row(label, f"{taken[WARM_START]:.0f}", f"{taken[TRAINING]:.0f}")
    return table


def show_one_answer(trajectories: list[Trajectory], tokenizer: ModelTokenizer, console: Console) -> None:
    """Print the whole trace of one question: a right answer that took the most searches, if there is one."""
    trajectory = max(trajectories, key=lambda episode: (score_episode(episode).em, len(episode.steps)))
    say(console, f"\nOne of them: {trajectory.question.question}", style="bold")
    EpisodePrinter(console).show_trajectory(trajectory, tokenizer.decode)
    say(console, f"(the answer is {trajectory.question.answers[0]})\n")


def closing_words(summary: dict[str, Any], folder: RunFolder) -> str:
    """Return how long it took, where everything is, and what to run next."""
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary["stages"].items())
    program = Path(sys.argv[0])
    # What stands in a virtual environment that is not activated is called by its path.
    by_path = program.name == "stepsearch" and shutil.which("stepsearch") is None
    stepsearch, tensorboard = (
        str(program.with_name(name)) if by_path else name for name in ("stepsearch", "tensorboard")
    )
    taken = f"{summary['seconds']:.0f} s ({stages}), {summary['cpu_seconds']:.0f} CPU-s"
    return (
        f"{taken}, {summary['peak_memory_mb']:.0f} MB; written to {folder.root}\n"
        f"ask it:       {stepsearch} inference --model-path {folder.best_model} --mode interactive\n"
        f"serve it:     {stepsearch} serve --model-path {folder.best_model}\n"
        f"see curves:   {tensorboard} --logdir {folder.logs / 'tensorboard'}\n"
        f"your data:    {stepsearch} prepare-data --raw-musique-dir DIR --output-dir data --build-knowledge-base"
    )
