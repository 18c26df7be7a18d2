"""The parts of a comparison, each of which can run in a process of its own and goes on where it was.

DIR/seed-0/start-1a2b3c4d/   world, data, warm start and the evaluation before training, shared by methods that agree in
                             all settings these depend on
DIR/seed-0/steppo/           a method's run, as `train` leaves one, and the evaluation after it
"""

import hashlib
import json
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsearch.cli.assembly import TINY
from stepsearch.cli.digests import file_digest
from stepsearch.cli.experiment import (
    AFTER,
    BEFORE,
    DATA,
    RUN_SHARES,
    START_SHARES,
    TRAINING,
    WARM_START,
    WORLD,
    PredictionFiles,
    QuestionFiles,
    Stages,
    evaluate_model,
    make_world,
    prepare_data,
    start_warm,
    train_run,
)
from stepsearch.cli.methods import Method
from stepsearch.cli.players import use_threads
from stepsearch.cli.progress import JobProgress, Report
from stepsearch.cli.searching import find_corpus
from stepsearch.cli.stage_ledger import StageLedger, is_finished
from stepsearch.cli.starting_policy import load_saved
from stepsearch.config import Config, as_mapping
from stepsearch.data import read_questions
from stepsearch.errors import ConfigError
from stepsearch.evaluation.scores import QuestionScores, write_scores
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.progress import Advance
from stepsearch.training.run_folder import RunFolder

LEDGER, SCORES = "stages.json", "scores.json"
# What the start depends on; evaluation.temperature because the evaluation before training is part of it.
START_SECTIONS = ("world", "model", "warm_start", "search", "rollout")
# What a run may change when it goes on: what is written, and how it is spread over the machine.
_FREE = {"logging": None, "training": ("threads", "workers")}


@dataclass(frozen=True, slots=True)
class OwnQuestions:
    """A user's files, and hashes of what is in them."""

    files: QuestionFiles
    digests: tuple[str | None, ...]

    @classmethod
    def of(cls, files: QuestionFiles) -> "OwnQuestions":
        """Return files that can be read.

        Raises:
            DataError: one cannot.
        """
        return cls(files, tuple(path and file_digest(path) for path in (files.train, files.dev, files.test)))


@dataclass(frozen=True, slots=True)
class Start:
    """What methods share on one seed.

    Attributes:
        config: of the first of the methods; only what the start depends on is used.
        engine_asked: whether the user named the search engine.
        own: the user's questions; None for a generated world.
        seed_folder: where the seed's folders are.
    """

    config: Config
    engine_asked: bool
    own: "OwnQuestions | None"
    seed_folder: Path

    @property
    def label(self) -> str:
        """Name for people."""
        return f"seed {self.config.seed}: {self.folder.name}"

    @property
    def needs(self) -> "Start | None":
        """Nothing comes before it."""
        return None

    @property
    def weight(self) -> float:
        """Rough share of the time."""
        return sum(START_SHARES.values())

    @property
    def folder(self) -> Path:
        """Where its results are, named after the settings it depends on."""
        text = json.dumps(self.settings(), sort_keys=True)
        return self.seed_folder / f"start-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"

    @property
    def files(self) -> QuestionFiles:
        """The questions."""
        return QuestionFiles.beside(self.folder / "data") if self.own is None else self.own.files

    @property
    def before(self) -> PredictionFiles:
        """The episodes before training."""
        return PredictionFiles.of(self.folder / "results", "before")

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return is_finished(self.folder / LEDGER, BEFORE)

    def settings(self) -> dict[str, Any]:
        """Return all that the start depends on."""
        tree = as_mapping(self.config)
        settings: dict[str, Any] = {name: tree[name] for name in START_SECTIONS}
        settings["seed"] = self.config.seed
        settings["search"] = {**settings["search"], "asked": self.engine_asked}
        settings["reward"] = {"max_search_steps": self.config.reward.max_search_steps}
        settings["evaluation"] = {"temperature": self.config.evaluation.temperature}
        if self.own is not None:
            del settings["world"]
            settings["questions"] = list(self.own.digests)
            # Which dev questions are the report's, where there are no test questions.
            settings["evaluation"]["dev_questions"] = self.config.evaluation.dev_questions
        return settings

    def perform(self, report: Report) -> None:
        """Do what is left to do.

        Raises:
            StepSearchError: a setting or file is wrong.
        """
        use_threads(self.config)
        (self.folder / "results").mkdir(parents=True, exist_ok=True)
        stages = Stages(
            StageLedger(self.folder / LEDGER, self.settings(), resume=True), JobProgress(START_SHARES, report)
        )
        raw, config = self.folder / "raw", self.config
        if self.own is None:
            with self._none_if_refused():
                stages.run(WORLD, lambda advance, begun: make_world(raw, config))
            stages.run(DATA, lambda advance, begun: prepare_data(raw, self.folder / "data"))
        if config.model.name == TINY:
            stages.run(WARM_START, lambda advance, begun: self._start_warm(advance))
        stages.run(BEFORE, lambda advance, begun: self._evaluate(advance))

    def searching(self, config: Config, engine_asked: bool) -> Config:
        """Return settings with the corpus settled."""
        settings, _ = find_corpus(config.search, self.files.train, engine_asked)
        return config.model_copy(update={"search": settings})

    def corpus_line(self) -> str:
        """Return what is searched, in words; of a generated world it is known only once its data are prepared."""
        return find_corpus(self.config.search, self.files.train, self.engine_asked)[1]

    def load_policy(self) -> StepSearchModel:
        """Return the policy that training starts from.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self.config.model.name == TINY:
            return load_saved(self.folder / "warm_start", self.config)
        return StepSearchModel.load(self.config.model)

    @contextmanager
    def _none_if_refused(self) -> Generator[None]:
        """Leave no folder behind where the settings are refused."""
        try:
            yield
        except ConfigError:
            shutil.rmtree(self.folder)
            raise

    def _start_warm(self, advance: Advance) -> None:
        config = self.searching(self.config, self.engine_asked)
        start_warm(config, read_questions(self.files.train), self.folder / "warm_start", advance)

    def _evaluate(self, advance: Advance) -> None:
        config = self.searching(self.config, self.engine_asked)
        evaluate_model(config, self.load_policy(), self.files.read_test(config), self.before, advance)
        _write_scores(self.before, self.folder / "results" / SCORES)


@dataclass(frozen=True, slots=True)
class Run:
    """One method on one seed.

    Attributes:
        method: which.
        config: its settings, with the seed.
        start: what it begins with.
    """

    method: Method
    config: Config
    start: Start

    @property
    def label(self) -> str:
        """Name for people."""
        return f"seed {self.config.seed}: {self.method.name}"

    @property
    def needs(self) -> Start | None:
        """What has to be finished before it."""
        return self.start

    @property
    def weight(self) -> float:
        """Rough share of the time."""
        return sum(RUN_SHARES.values())

    @property
    def folder(self) -> Path:
        """The run's root."""
        return self.start.seed_folder / self.method.name

    @property
    def after(self) -> PredictionFiles:
        """The episodes after training."""
        return PredictionFiles.of(self.folder / "results", "after")

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return is_finished(self.folder / LEDGER, AFTER)

    def open_ledger(self) -> StageLedger:
        """Return what is finished of the run.

        Raises:
            ConfigError: the folder holds a run with other settings; the first that differs is named.
        """
        tree: dict[str, Any] = dict(as_mapping(self.config))
        for section, keys in _FREE.items():
            tree[section] = {} if keys is None else {k: v for k, v in tree[section].items() if k not in keys}
        if self.start.own is not None:
            del tree["world"]
            tree["questions"] = list(self.start.own.digests)
        return StageLedger(self.folder / LEDGER, tree, resume=True)

    def perform(self, report: Report) -> None:
        """Do what is left to do.

        Raises:
            StepSearchError: a setting or file is wrong, or training could not go on.
            KeyboardInterrupt: training was interrupted, after a checkpoint.
        """
        use_threads(self.config)
        folder = RunFolder.at(self.folder)
        stages = Stages(self.open_ledger(), JobProgress(RUN_SHARES, report))
        config = self.start.searching(self.config, self.method.engine_asked)
        stages.run(TRAINING, lambda advance, begun: self._train(config, folder, begun, advance))
        stages.run(AFTER, lambda advance, begun: self._evaluate(config, folder, advance))

    def _train(self, config: Config, folder: RunFolder, begun: bool, advance: Advance) -> None:
        train_run(config, self.start.files, self.start.load_policy(), folder, begun, advance)

    def _evaluate(self, config: Config, folder: RunFolder, advance: Advance) -> None:
        policy = load_saved(folder.best_model, config)
        evaluate_model(config, policy, self.start.files.read_test(config), self.after, advance)
        _write_scores(self.after, folder.results / SCORES)


def _write_scores(episodes: PredictionFiles, path: Path) -> None:
    played = episodes.read()
    write_scores(path, {"greedy": QuestionScores.of(played.greedy), "sampled": QuestionScores.of(played.sampled)})
