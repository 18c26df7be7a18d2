"""The stages of an experiment on the embedded default or on a user's data, each leaving its result on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsearch.cli.assembly import build_policy
from stepsearch.cli.players import Player
from stepsearch.cli.progress import StageDisplay
from stepsearch.cli.run_records import UNKNOWN, Origin, warm_start_record
from stepsearch.cli.stage_ledger import StageLedger
from stepsearch.cli.train import train_policy
from stepsearch.config import Config
from stepsearch.data import read_questions
from stepsearch.data.synthetic import write_world
from stepsearch.evaluation.evaluator import question_seeds, read_predictions, run_questions, write_predictions
from stepsearch.evaluation.metrics import EvaluationMetrics, measure
from stepsearch.evaluation.result_files import predictions_path
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.preparation.pipeline import PROCESSED_DEV, PROCESSED_TEST, PROCESSED_TRAIN, CorpusPlan, prepare_splits
from stepsearch.preparation.split_sources import raw_sources
from stepsearch.progress import Advance
from stepsearch.search import build_search_engine
from stepsearch.search.guarded_search import guard
from stepsearch.training.run_folder import RunFolder
from stepsearch.types import Question, Trajectory

WORLD, DATA, WARM_START, BEFORE, TRAINING, AFTER = (
    "generate the world",
    "prepare the data",
    "warm start",
    "evaluate before",
    "training",
    "evaluate after",
)
# Rough shares of the time, for bars: what comes before training and can be shared, and training with what follows.
START_SHARES = {WORLD: 1.0, DATA: 1.0, WARM_START: 35.0, BEFORE: 8.0}
RUN_SHARES = {TRAINING: 46.0, AFTER: 8.0}
GENERATED = "generated"
"""What a generated world's questions are called: its files are in MuSiQue's format, and are not MuSiQue."""
SAMPLING_TEMPERATURE = 1.0
"""Of the evaluations that sample, whatever temperature the others have."""


@dataclass(frozen=True, slots=True)
class QuestionFiles:
    """Processed questions: what is trained on, what chooses the best model, and what nothing but the report sees.

    Without test questions the report is about the dev questions that do not choose the best model, and about all of
    them where these are all there are.
    """

    train: Path
    dev: Path
    test: Path | None

    @classmethod
    def beside(cls, folder: Path) -> "QuestionFiles":
        """Return the files that `prepare` writes into a folder."""
        return cls(folder / PROCESSED_TRAIN, folder / PROCESSED_DEV, folder / PROCESSED_TEST)

    def read_test(self, config: Config) -> list[Question]:
        """Return the questions of the report.

        Raises:
            DataError: a file cannot be read.
        """
        if self.test is not None:
            return read_questions(self.test)
        dev = read_questions(self.dev)
        return dev[config.evaluation.dev_questions :] or dev


@dataclass(frozen=True, slots=True)
class PredictionFiles:
    """The episodes of one evaluation: `greedy` at `evaluation.temperature`, `sampled` at T = 1."""

    greedy: Path
    sampled: Path

    @classmethod
    def of(cls, results: Path, when: str) -> "PredictionFiles":
        """Return the files in a run's results, `when` being before or after."""
        return cls(predictions_path(results, when), predictions_path(results, f"{when}_sampled"))

    def read(self) -> "Episodes":
        """Return what the files hold."""
        return Episodes(read_predictions(self.greedy), read_predictions(self.sampled))


@dataclass(frozen=True, slots=True)
class Episodes:
    """What an evaluation played, one episode per question each."""

    greedy: list[Trajectory]
    sampled: list[Trajectory]

    def measure(self) -> "EpisodeFigures":
        """Return the figures of both."""
        return EpisodeFigures(measure(self.greedy), measure(self.sampled))


@dataclass(frozen=True, slots=True)
class EpisodeFigures:
    """What an evaluation measured."""

    greedy: EvaluationMetrics
    sampled: EvaluationMetrics


class Stages:
    """Runs the stages that are not finished.

    Args:
        ledger: knows which are.
        progress: shows the running one.
    """

    def __init__(self, ledger: StageLedger, progress: StageDisplay) -> None:
        self._ledger = ledger
        self._progress = progress

    def run(self, name: str, work: Callable[[Advance, bool], Any]) -> None:
        """Run a stage unless it is finished; `work` is told whether it had been begun before."""
        if self._ledger.is_finished(name):
            self._progress.skip(name)
            return
        with self._progress.stage(name) as advance, self._ledger.stage(name) as begun:
            work(advance, begun)


def make_world(raw: Path, config: Config) -> None:
    """Generate the world of the seed.

    Raises:
        ConfigError: the world cannot have that size.
    """
    write_world(raw, config.world, config.seed)


def prepare_data(raw: Path, folder: Path) -> None:
    """Prepare a generated world's questions and one knowledge base of all its passages."""
    sources = [source.called(GENERATED) for source in raw_sources(raw, "musique")]
    prepare_splits(sources, folder, None, CorpusPlan(contexts=True), report=lambda line: None)


def start_warm(
    config: Config, questions: list[Question], folder: Path, advance: Advance, origin: Origin = UNKNOWN
) -> None:
    """Save the policy that training starts from.

    Raises:
        TrainingError: the questions yield no demonstrations.
    """
    policy = build_policy(config, questions, build_search_engine(config.search), advance)
    policy.save(folder, warm_start_record(config, questions, origin))


def train_run(
    config: Config,
    files: QuestionFiles,
    policy: StepSearchModel,
    folder: RunFolder,
    resume: bool,
    advance: Advance,
    command: str | None = None,
) -> None:
    """Train a policy in a run's folder.

    Raises:
        KeyboardInterrupt: the run was interrupted, after a checkpoint.
    """
    train_policy(
        config,
        policy,
        read_questions(files.train),
        folder,
        search=guard(build_search_engine(config.search), config.search),
        reward_calculator=None,
        eval_questions=read_questions(files.dev),
        resume=resume,
        advance=advance,
        origin=Origin(files.train, files.dev, command),
    )


def evaluate_model(
    config: Config, policy: StepSearchModel, questions: list[Question], files: PredictionFiles, advance: Advance
) -> None:
    """Play the questions at `evaluation.temperature`, then sampled at T = 1, and write both."""
    player = Player(policy, guard(build_search_engine(config.search), config.search), config)
    # Those of the seed and the question's place alone: methods that are compared meet the same noise.
    seeds = question_seeds(config.seed, len(questions))
    for path, temperature in ((files.greedy, config.evaluation.temperature), (files.sampled, SAMPLING_TEMPERATURE)):
        trajectories = run_questions(
            player.runner(temperature),
            questions,
            seeds,
            config.evaluation.batch_size,
            lambda count: advance(count / (2 * len(questions))),
        )
        write_predictions(path, trajectories)
