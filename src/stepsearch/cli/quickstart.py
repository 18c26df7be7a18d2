"""`stepsearch quickstart`: the whole pipeline on the embedded default, from a generated world to an answer."""

import argparse
import resource
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stepsearch.cli.assembly import Player, build_policy, find_corpus, guard, use_threads
from stepsearch.cli.episode_printer import EpisodePrinter
from stepsearch.cli.progress import Advance, StageProgress, open_console, say
from stepsearch.cli.stage_ledger import StageLedger
from stepsearch.cli.train import refuse_impossible, train_policy
from stepsearch.cli.versions import package_versions
from stepsearch.config import Config, as_mapping, asked_keys, load_config
from stepsearch.data import read_questions
from stepsearch.data.synthetic import write_world
from stepsearch.errors import DataError
from stepsearch.evaluation.evaluator import question_seeds, read_predictions, run_questions, write_predictions
from stepsearch.evaluation.metrics import EvaluationMetrics, measure, score_episode
from stepsearch.evaluation.report import figures_table, write_json
from stepsearch.models.model_folder import load_hf_tokenizer
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.preparation.pipeline import prepare
from stepsearch.search import build_search_engine
from stepsearch.training.checkpoints import check_unused
from stepsearch.training.run_folder import RunFolder
from stepsearch.types import Question, Trajectory

WORLD, DATA, WARM_START, BEFORE, TRAINING, AFTER = (
    "generate the world",
    "prepare the data",
    "warm start",
    "evaluate before",
    "StePPO",
    "evaluate after",
)
# Rough shares of the time, for the bar.
SHARES = {WORLD: 1, DATA: 1, WARM_START: 40, BEFORE: 3, TRAINING: 52, AFTER: 3}


def run(args: argparse.Namespace) -> None:
    """Run every stage that is not finished, print what came out and write `summary.json`.

    Raises:
        StepSearchError: a setting or the output folder is wrong, or training could not go on.
    """
    config_file = args.config or default_config_file()
    config = load_config(config_file, args.overrides)
    refuse_impossible(config)
    use_threads(config)
    console = open_console()
    folder = RunFolder.at(args.output_dir)
    ledger_file = folder.root / "quickstart.json"
    if not ledger_file.is_file():
        check_unused(folder.checkpoints)
    elif not args.resume:
        say(console, f"replacing the earlier quickstart in {folder.root}; --resume would have gone on with it")
        forget_run(folder)
    ledger = StageLedger(ledger_file, as_mapping(config), args.resume)
    engine_asked = "search.engine_type" in asked_keys(config_file, args.overrides)
    before, after = Quickstart(config, folder, ledger, StageProgress(console, SHARES), engine_asked).run()
    metrics = {"warm start": measure(before), "StePPO": measure(after)}
    summary = summarise(config, ledger.seconds, metrics["warm start"], metrics["StePPO"])
    write_json(folder.root / "summary.json", summary)
    console.print(results_table(config.seed, metrics, ledger.seconds))
    show_one_answer(after, ModelTokenizer(load_hf_tokenizer(str(folder.best_model))), console)
    say(console, closing_words(summary, folder))


def default_config_file() -> Path:
    """Return `config/tiny.yaml` of the source tree, or the copy that an installed package carries."""
    here = Path(__file__)
    for candidate in (here.parents[3] / "config" / "tiny.yaml", here.parent / "tiny.yaml"):
        if candidate.is_file():
            return candidate
    raise DataError("config/tiny.yaml is not where it should be: name it with --config FILE")


def forget_run(folder: RunFolder) -> None:
    """Delete what an earlier quickstart left in its folder and a new one would otherwise mix with its own."""
    for part in (folder.checkpoints, folder.logs):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
    (folder.root / "summary.json").unlink(missing_ok=True)


class Quickstart:
    """The stages, each leaving its result on disk, where the next one finds it.

    Args:
        config: all settings.
        folder: the run.
        ledger: knows which stages are finished.
        progress: shows the running one.
        engine_asked: whether the user named the search engine.
    """

    def __init__(
        self, config: Config, folder: RunFolder, ledger: StageLedger, progress: StageProgress, engine_asked: bool
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._progress = progress
        self._raw = folder.root / "raw"
        self._data = folder.root / "data"
        self._warm_start = folder.checkpoints / "warm_start"
        self._before = folder.results / "predictions_before.jsonl"
        self._after = folder.results / "predictions_after.jsonl"
        self._config = config
        self._engine_asked = engine_asked

    def run(self) -> tuple[list[Trajectory], list[Trajectory]]:
        """Run what is left to do; return the evaluation's episodes before and after training."""
        config = self._config
        with self._progress.running():
            self._stage(WORLD, lambda advance, resume: write_world(self._raw, config.world, config.seed))
            self._stage(DATA, lambda advance, resume: self._prepare())
            self._stage(WARM_START, lambda advance, resume: self._start_warm(advance))
            self._stage(BEFORE, lambda advance, resume: self._evaluate(self._warm_start, self._before, advance))
            self._stage(TRAINING, self._train)
            self._stage(AFTER, lambda advance, resume: self._evaluate(self._folder.best_model, self._after, advance))
        return read_predictions(self._before), read_predictions(self._after)

    def _stage(self, name: str, work: Callable[[Advance, bool], Any]) -> None:
        if name in self._ledger.seconds:
            self._progress.skip(name)
            return
        resume = self._ledger.start(name)
        with self._progress.stage(name) as advance:
            work(advance, resume)
        self._ledger.finish(name, self._progress.seconds[name])

    def _prepare(self) -> None:
        prepare(self._raw, self._data, build_knowledge_base=True, report=lambda line: None)

    def _start_warm(self, advance: Advance) -> None:
        engine = build_search_engine(self._searching_config().search)
        build_policy(self._config, self._questions("train"), engine, advance).save(self._warm_start, {})

    def _train(self, advance: Advance, resume: bool) -> None:
        config = self._searching_config()
        train_policy(
            config,
            StepSearchModel.load(self._warm_start),
            self._questions("train"),
            self._folder,
            search=guard(build_search_engine(config.search), config.search),
            reward_calculator=None,
            eval_questions=self._questions("dev"),
            resume=resume,
            advance=advance,
        )

    def _evaluate(self, model: Path, predictions: Path, advance: Advance) -> None:
        """Play the dev questions that don't choose the best model; all of them where those are all there are."""
        questions = self._questions("dev")
        questions = questions[self._config.evaluation.dev_questions :] or questions
        config = self._searching_config()
        player = Player(StepSearchModel.load(model), guard(build_search_engine(config.search), config.search), config)
        seeds = question_seeds(config.seed, len(questions))
        trajectories = run_questions(
            player.runner(config.evaluation.temperature),
            questions,
            seeds,
            config.evaluation.batch_size,
            lambda count: advance(count / len(questions)),
        )
        write_predictions(predictions, trajectories)

    def _questions(self, split: str) -> list[Question]:
        return read_questions(self._data / f"{split}_processed.json")

    def _searching_config(self) -> Config:
        settings, _ = find_corpus(self._config.search, self._data / "train_processed.json", self._engine_asked)
        return self._config.model_copy(update={"search": settings})


def summarise(
    config: Config, stages: dict[str, float], before: EvaluationMetrics, after: EvaluationMetrics
) -> dict[str, Any]:
    """Return what `summary.json` holds."""
    return {
        "seed": config.seed,
        "seconds": sum(stages.values()),
        "peak_memory_mb": peak_memory_mb(),
        "before": before.to_json(),
        "after": after.to_json(),
        "stages": stages,
        "config": as_mapping(config),
        "versions": package_versions(),
    }


def results_table(seed: int, metrics: Mapping[str, EvaluationMetrics], stages: Mapping[str, float]) -> Table:
    """Return the figures before and after StePPO, with the seconds that each stage of training took."""
    table = figures_table(f"Questions about entities that training never saw (seed {seed})", metrics)
    table.add_row("seconds of training", f"{stages[WARM_START]:.0f}", f"{stages[TRAINING]:.0f}")
    return table


def peak_memory_mb() -> float:
    """Return the most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on macOS, in KiB elsewhere.
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def show_one_answer(trajectories: list[Trajectory], tokenizer: ModelTokenizer, console: Console) -> None:
    """Print the whole trace of one question: a right answer that took the most searches, if there is one."""
    trajectory = max(trajectories, key=lambda episode: (score_episode(episode).em, len(episode.steps)))
    say(console, f"\nOne of them: {trajectory.question.question}", style="bold")
    EpisodePrinter(console).show_trajectory(trajectory, tokenizer.decode)
    say(console, f"(the answer is {trajectory.question.answers[0]})\n")


def closing_words(summary: dict[str, Any], folder: RunFolder) -> str:
    """Return how long it took, where everything is, and what to run next."""
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary["stages"].items())
    return (
        f"{summary['seconds']:.0f} s ({stages}), {summary['peak_memory_mb']:.0f} MB; written to {folder.root}\n"
        f"ask it:       stepsearch inference --model-path {folder.best_model} --mode interactive\n"
        f"see curves:   tensorboard --logdir {folder.logs / 'tensorboard'}\n"
        "your data:    stepsearch prepare-data --raw-musique-dir DIR --output-dir data --build-knowledge-base"
    )
