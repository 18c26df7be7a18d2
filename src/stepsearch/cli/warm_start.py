"""`stepsearch warm-start`: a supervised start for any model, on demonstrations of the user's own or scripted ones."""

import argparse
import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, compress
from pathlib import Path
from typing import Any

from rich.console import Console

from stepsearch.cli.assembly import TINY, settings_of_model
from stepsearch.cli.players import observation_builder, use_threads
from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.cli.run_records import Origin, run_record, typed_command
from stepsearch.cli.searching import find_corpus
from stepsearch.config import Config, WarmStartPhase, asked_keys, load_config
from stepsearch.data import read_questions
from stepsearch.errors import ConfigError, TrainingError
from stepsearch.models.run_record import RUN, WARM_START, QuestionsUsed
from stepsearch.models.step_search_model import StepSearchModel, model_record
from stepsearch.preparation.demonstration_files import read_demonstrations
from stepsearch.preparation.demonstrations import Demonstration, DemonstrationWriter, Observed
from stepsearch.progress import Advance
from stepsearch.search import build_search_engine
from stepsearch.search.guarded_search import guard
from stepsearch.training.checkpoints import check_unused
from stepsearch.training.demonstration_batches import DemonstrationEncoder, Example
from stepsearch.training.imitation import LOSS, Imitation, ImitationSummary, OnUpdate
from stepsearch.training.metric_log import MetricLog
from stepsearch.training.run_folder import RunFolder

# Scripts without flaws: what they show is the form of an episode, and queries that find.
_FLAWLESS = WarmStartPhase(kind="demonstrations", updates=1)


def run(args: argparse.Namespace) -> None:
    """Learn from demonstrations and save the model, which appears whole at the end or not at all.

    Raises:
        StepSearchError: a file, a setting or the output folder is wrong, or learning could not go on.
    """
    console = open_console()
    asked = load_config(args.config, args.overrides)
    if asked.model.name == TINY:
        raise ConfigError(
            "model.name=tiny has a warm start of its own, which stepsearch train runs (warm_start.phases): name "
            "another model"
        )
    # A model that was trained here goes on with its own context and budgets.
    config = settings_of_model(asked.model.name, args.config, args.overrides)
    folder = RunFolder.at(args.output_dir, ("checkpoints", "logs"))
    _check_unused(folder)
    if args.demonstrations is not None:
        demonstrations = read_demonstrations(args.demonstrations, config.reward.max_search_steps)
    else:
        # The corpus is that of these questions, and not the one that the model was trained on.
        corpus = {"engine_type": asked.search.engine_type, "knowledge_base": asked.search.knowledge_base}
        engine_asked = "search.engine_type" in asked_keys(args.config, args.overrides)
        settings, line = find_corpus(config.search.model_copy(update=corpus), args.musique_path, engine_asked)
        say(console, line)
        config = config.model_copy(update={"search": settings})
        demonstrations = write_demonstrations(config, args.musique_path)
    use_threads(config)
    policy = StepSearchModel.load(config.model)
    examples = _encode(demonstrations, policy, config, console)
    imitation = Imitation(policy, examples, config)
    progress = StageProgress(console, {WARM_START: 1})
    with MetricLog(folder.logs, step=0, tensorboard=config.logging.tensorboard) as log, progress.running():
        with progress.stage(WARM_START) as advance:
            summary = imitation.run(log, _updates_shown(advance))
        policy.save(folder.best_model, _record(config, args, len(examples)))
    say(console, _closing_words(summary, folder))


def write_demonstrations(config: Config, questions: Path) -> list[Demonstration]:
    """Return scripted episodes of the questions whose reference queries find their answers.

    Raises:
        DataError: the questions cannot be read.
        TrainingError: there is no such question.
    """
    writer = DemonstrationWriter(
        guard(build_search_engine(config.search), config.search),
        top_k=config.search.top_k,
        max_searches=config.reward.max_search_steps,
    )
    written = writer.write(read_questions(questions), _FLAWLESS, random.Random(config.seed))
    if not written:
        raise TrainingError(
            f"{questions}: no question has sub-questions whose reference queries find their answers; annotate the "
            "questions, or give --demonstrations"
        )
    return written


def _record(config: Config, args: argparse.Namespace, count: int) -> dict[str, Any]:
    """Return what the saved model is to remember, and its card to say."""
    run = run_record(config, WARM_START, (), Origin(command=typed_command(args.typed)))
    file: Path = args.demonstrations or args.musique_path
    run = replace(run, questions=(QuestionsUsed("demonstrations", file.name, {"": count}),))
    if args.demonstrations is not None:
        # What the demonstrations found came with them: nothing was searched here.
        run = replace(run, corpus=None)
    return {**model_record(config), RUN: run.to_json()}


def _check_unused(folder: RunFolder) -> None:
    check_unused(folder.checkpoints)
    if folder.best_model.exists():
        raise ConfigError(f"{folder.best_model} is there already: name another --output-dir")


def _encode(
    demonstrations: list[Demonstration], policy: StepSearchModel, config: Config, console: Console
) -> list[Example]:
    """Return the demonstrations in tokens that fit into the context, and say how many there are.

    Raises:
        ConfigError: none fits.
    """
    observations, room = observation_builder(policy.tokenizer, config.rollout), config.model.max_length
    encoded = DemonstrationEncoder(policy.tokenizer, observations, room).encode_all(demonstrations)
    lengths = [len(example.ids) for example in encoded]
    if min(lengths) > room:
        raise ConfigError(
            f"model.max_length={room} is too short for every demonstration: they have {min(lengths)} to {max(lengths)} "
            f"tokens; raise it to {max(lengths)}, or show shorter ones"
        )
    fits = [length <= room for length in lengths]
    examples = list(compress(encoded, fits))
    kept = chain.from_iterable(shown.segments for shown in compress(demonstrations, fits))
    searches = sum(isinstance(segment, Observed) for segment in kept)
    written = sum(sum(example.written) for example in examples)
    say(
        console,
        f"{len(examples):,} demonstrations, {searches / len(examples):.1f} searches each, {written:,} tokens to write",
    )
    if len(examples) < len(demonstrations):
        left_out = len(encoded) - len(examples)
        say(
            console,
            f"left out, as longer than model.max_length={room}: {left_out:,}; the longest has {max(lengths)} tokens",
        )
    return examples


def _updates_shown(advance: Advance) -> OnUpdate:
    """Return what moves the progress on by each update."""

    def show(number: int, updates: int, metrics: Mapping[str, float]) -> None:
        advance(1 / updates, f"update {number} of {updates}, loss {metrics[LOSS]:.3f}")

    return show


def _closing_words(summary: ImitationSummary, folder: RunFolder) -> str:
    measured = ", ".join(
        f"{name.rpartition('/')[2]} {summary.before[name]:.3f} to {value:.3f}" for name, value in summary.after.items()
    )
    ended = f"ended early: {summary.collapse}\n" if summary.collapse else ""
    return (
        f"{ended}{summary.updates} of {summary.planned} updates: {measured}; logs in {folder.logs}\n"
        f"next: stepsearch train --musique-path FILE --output-dir DIR model.name={folder.best_model}"
    )
