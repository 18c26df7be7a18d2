"""What a saved model is told of the run that made it, for its card."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stepsearch.cli.versions import package_versions
from stepsearch.config import Config, as_mapping
from stepsearch.data import KnowledgeBase
from stepsearch.evaluation.metrics import EvaluationMetrics, wilson_interval
from stepsearch.models.model_folder import read_run, rewrite_run
from stepsearch.models.run_record import RUN, STEPPO, WARM_START, CorpusUsed, QuestionsUsed, Result, RunRecord
from stepsearch.models.step_search_model import model_record
from stepsearch.preparation.coverage import Match, golden_documents, locate
from stepsearch.search.stored_passages import StoredPassages
from stepsearch.types import Passage, Question

DEV, TEST = "dev", "test"
# A larger corpus is not looked through for golden documents: `stepsearch audit` does that.
COVERED_PASSAGES = 300_000
# What a public card must not tell: addresses and commands may hold passwords, and paths the user's name.
_PRIVATE = ("url", "command", "environment", "token_variable", "cache_dir", "knowledge_base", "exchange_folder")
_HIDDEN = "..."


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run's parts come from.

    Attributes:
        train_file: the training questions'; None where they come from no file.
        dev_file: the dev questions'.
        command: as it was typed; None where there was none.
        engine: name of a search engine that a script brought along; None where the settings name it.
        rewards: name of a reward calculator that a script brought along; None for the method's own.
    """

    train_file: Path | None = None
    dev_file: Path | None = None
    command: str | None = None
    engine: str | None = None
    rewards: str | None = None


UNKNOWN = Origin()


def typed_command(argv: Sequence[str]) -> str:
    """Return a command as it was typed, for a card that others read.

    Values that may be secret are left out, paths below the working folder begin there, and those below the home folder
    with `~`.
    """
    words = [_short(_without_secret(word)) for word in argv]
    hidden = [_HIDDEN if before == "--token" else word for before, word in zip(["", *words], words, strict=False)]
    return shlex.join(["stepsearch", *hidden]).replace(str(Path.home()), "~")


def _without_secret(word: str) -> str:
    key, equals, _ = word.partition("=")
    return f"{key}={_HIDDEN}" if equals and key.rpartition(".")[2] in _PRIVATE else word


def _short(word: str) -> str:
    """Return a word of a command, a whole path below the working folder in it as one from there."""
    before, equals, path = word.rpartition("=")
    if not Path(path).is_absolute() or not Path(path).is_relative_to(Path.cwd()):
        return word
    return f"{before}{equals}{Path(path).relative_to(Path.cwd())}"


def run_record(
    config: Config,
    method: str,
    questions: Sequence[Question],
    origin: Origin,
    dev: Sequence[Question] = (),
) -> RunRecord:
    """Return what is known before a run has a result.

    Args:
        config: all settings.
        method: how the weights come about.
        questions: what it learns from.
        origin: where these come from.
        dev: what chooses the best model.
    """
    base = _base_model(config.model.name)
    before = _run_of_base(config.model.name)
    used = [_used("training", origin.train_file, questions)]
    if dev:
        used.append(_used("choosing the best model", origin.dev_file, dev))
    return RunRecord(
        method=method,
        seed=config.seed,
        base_model=base if before is None else before.base_model,
        base_folder=_base_folder(config.model.name) if before is None else before.base_folder,
        questions=tuple(used),
        corpus=corpus_used(config, questions)
        if origin.engine is None
        else CorpusUsed(origin.engine, config.search.top_k),
        settings=changed_settings(config),
        commands=(*(() if before is None else before.commands), *([origin.command] if origin.command else [])),
        versions=package_versions(),
    )


def describer(
    config: Config, questions: Sequence[Question], origin: Origin, dev: Sequence[Question] = ()
) -> Callable[[int, int, Mapping[str, float]], Mapping[str, Any]]:
    """Return what a trainer asks for the record of its best model; the corpus is looked through once, when it does."""

    @cache
    def known() -> RunRecord:
        return run_record(config, method_of(config, origin.rewards), questions, origin, dev)

    def describe(step: int, total_steps: int, measured: Mapping[str, float]) -> Mapping[str, Any]:
        record = replace(known(), step=step, total_steps=total_steps)
        return {RUN: record.with_results(_dev_results(measured, len(dev))).to_json()}

    return describe


def method_of(config: Config, rewards: str | None = None) -> str:
    """Return what a run is to be called: StePPO, or what its settings have left of that.

    Args:
        config: all settings.
        rewards: name of a reward calculator that is not the method's own.
    """
    in_groups = config.training.critic == "group"
    if rewards is not None:
        return f"{'GRPO' if in_groups else 'PPO'} with the rewards of {rewards}"
    if config.reward.pays_searches or config.reward.pays_queries:
        return "GRPO with StePPO's rewards" if in_groups else STEPPO
    return "GRPO" if in_groups else "outcome-only PPO"


def warm_start_record(config: Config, questions: Sequence[Question], origin: Origin) -> dict[str, Any]:
    """Return what a warm-started model is to remember."""
    return {**model_record(config), RUN: run_record(config, WARM_START, questions, origin).to_json()}


def results_of(dataset: str, metrics: EvaluationMetrics) -> tuple[Result, ...]:
    """Return the figures of questions that had no part in training."""
    low, high = wilson_interval(metrics.em, metrics.count)
    return (
        Result(dataset, TEST, "em", metrics.em, metrics.count, low, high),
        Result(dataset, TEST, "f1", metrics.f1, metrics.count),
    )


def add_results(folder: Path, results: tuple[Result, ...]) -> None:
    """Let a saved model's card show further results; a model that knows nothing of its run is left as it is.

    Raises:
        ModelError: its record is damaged.
        DataError: it cannot be written.
    """
    run = read_run(str(folder))
    if run is not None:
        rewrite_run(folder, run.with_results(results))


def changed_settings(config: Config) -> dict[str, Any]:
    """Return the settings that differ from the defaults, by dotted key; what may be private is left out."""
    return dict(_changes(config, type(config)(), ""))


def _changes(section: BaseModel, defaults: BaseModel, prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name in type(section).model_fields:
        value, default = getattr(section, name), getattr(defaults, name)
        if isinstance(value, BaseModel) and isinstance(default, BaseModel):
            found += _changes(value, default, f"{prefix}{name}.")
        elif value != default and name not in _PRIVATE and prefix + name not in ("model.name", "seed"):
            plain = as_mapping(section)[name]
            found.append((prefix + name, plain))
    return found


def _dev_results(measured: Mapping[str, float], count: int) -> tuple[Result, ...]:
    """Return the dev metrics, named `eval/<dataset>/<figure>`, as results."""
    results: list[Result] = []
    for key, value in measured.items():
        _, dataset, figure = key.split("/")
        if figure == "em":
            results.append(Result(dataset, DEV, figure, value, count, *wilson_interval(value, count)))
        elif figure == "f1":
            results.append(Result(dataset, DEV, figure, value, count))
    return tuple(results)


def _used(use: str, file: Path | None, questions: Sequence[Question]) -> QuestionsUsed:
    counts = Counter(question.dataset for question in questions)
    return QuestionsUsed(use, None if file is None else file.name, dict(counts))


def _base_model(name: str) -> str | None:
    """Return a hub name; None for a folder and for the tiny policy."""
    return name if name.count("/") == 1 and not name.startswith((".", "~", "/")) and not Path(name).exists() else None


def _base_folder(name: str) -> str | None:
    """Return a folder's own name, without the path, which may be private; None for anything else."""
    folder = Path(name).expanduser()
    return folder.resolve().name if folder.is_dir() else None


def _run_of_base(name: str) -> RunRecord | None:
    folder = Path(name).expanduser()
    return read_run(str(folder)) if folder.is_dir() else None


def corpus_used(config: Config, questions: Sequence[Question]) -> CorpusUsed:
    """Return what a run searches, and how many of the questions' golden documents are there, in a corpus of some size.

    Raises:
        DataError: the knowledge base cannot be read.
    """
    search = config.search
    if search.knowledge_base is None:
        return CorpusUsed(search.engine_type, search.top_k)
    folder = Path(search.knowledge_base)
    passages, golden = len(KnowledgeBase.open(folder)), tuple(golden_documents(questions))
    fingerprint = StoredPassages.open(folder).fingerprint
    found = _golden_found(folder, fingerprint, golden) if golden and passages <= COVERED_PASSAGES else None
    return CorpusUsed(
        engine=search.engine_type,
        top_k=search.top_k,
        passages=passages,
        fingerprint=fingerprint,
        golden_documents=None if found is None else len(golden),
        golden_found=found,
    )


@lru_cache(maxsize=1)
def _golden_found(folder: Path, fingerprint: str, golden: tuple[Passage, ...]) -> int:
    """Return how many documents the knowledge base has; a run asks at its start and again for its card."""
    located = locate(golden, KnowledgeBase.open(folder), None)
    return sum(found.match is not Match.MISSING for found in located.values())
