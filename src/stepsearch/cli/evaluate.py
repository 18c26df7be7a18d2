"""`stepsearch evaluate`: how good a model is on benchmarks and on a user's questions, and how it compares."""

import argparse
from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from stepsearch.cli.answer_judge import AnswerJudge
from stepsearch.cli.assembly import settings_to_play
from stepsearch.cli.digests import file_digest, model_digest
from stepsearch.cli.evaluated_corpus import choose_corpus
from stepsearch.cli.evaluated_methods import MODEL, method_names, methods, read_other_models
from stepsearch.cli.evaluated_questions import read_asked
from stepsearch.cli.evaluation_results import Evaluation, Scores, write_results
from stepsearch.cli.players import SCRIPTED, closing_endpoint, open_player
from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.cli.stage_ledger import StageLedger
from stepsearch.config import Config, as_mapping
from stepsearch.errors import ConfigError
from stepsearch.evaluation.judging import judge_predictions
from stepsearch.evaluation.metrics import EpisodeScore
from stepsearch.evaluation.play import Watch, play, tasks_of
from stepsearch.evaluation.prediction_log import PredictionLog
from stepsearch.evaluation.result_files import SUMMARY
from stepsearch.models.trunk import sampled_in_half
from stepsearch.progress import Advance
from stepsearch.rollout import EpisodeRunner
from stepsearch.search import build_search_engine
from stepsearch.search.guarded_search import guard
from stepsearch.search.stored_passages import StoredPassages
from stepsearch.training.run_folder import RunFolder

LEDGER, REPLIES = "evaluation.json", "replies.jsonl"


def run(args: argparse.Namespace) -> None:
    """Evaluate on every dataset that was asked for; write predictions, figures and pictures, and print the tables.

    Raises:
        ConfigError: flags or settings contradict each other, or the folder holds another evaluation.
        DataError: a file or the corpus is missing, or the output folder cannot be written.
        ModelError: a model cannot be loaded.
    """
    console = open_console()
    folder = RunFolder.at(args.output_dir, parts=("results",)).results
    refuse_mixing(folder, args.resume)
    files, benchmarks = read_asked(args)
    config = settings_to_play(args.model_path, args.config, args.overrides, args.knowledge_base)
    refuse_impossible(config, args)
    config, engine, corpus = choose_corpus(args, config, list(benchmarks.values()))
    others = read_other_models(args.compare_model, args.config, args.overrides, config)
    search = guard(engine or build_search_engine(config.search), config.search)
    player = open_player(config, search, folder / REPLIES)
    say(console, corpus)
    questions = {name: benchmark.questions[: args.max_questions] for name, benchmark in benchmarks.items()}
    judge = AnswerJudge(args.judge, folder / REPLIES) if args.judge else None
    evaluation = Evaluation(folder, files, questions, corpus, args.samples, config, args.resume, judge, console)
    ledger = StageLedger(folder / LEDGER, settings_of(evaluation, args.max_questions), args.resume)
    for name, other in others.items():
        # Another model of that name would be taken for this one.
        record = folder / f"evaluation.{name}.json"
        StageLedger(record, settings_of_model_alone(other), args.resume and record.is_file())
    names = method_names(args.compare_baselines, others)
    with closing_endpoint(player), closing(judge) if judge is not None else nullcontext():
        scores = play_all(evaluation, methods(player, args.compare_baselines, others, folder / REPLIES), names, ledger)
        if judge is not None:
            say(console, judge.spent())
    write_results(evaluation, scores, ledger, {name: other.model.name for name, other in others.items()})


def refuse_mixing(folder: Path, resume: bool) -> None:
    """Refuse to write over an evaluation, and to go on with one whose settings are not known.

    Raises:
        ConfigError: the folder holds one.
    """
    begun = (folder / LEDGER).is_file()
    older = [path.name for path in sorted(folder.glob("*")) if path.name in (LEDGER, SUMMARY)]
    if older and not resume:
        raise ConfigError(
            f"{folder} holds an evaluation ({older[0]}): go on with it by --resume, or name another --output-dir"
        )
    if older and not begun:
        raise ConfigError(f"{folder} holds an evaluation without its settings ({LEDGER}): name another --output-dir")


def refuse_impossible(config: Config, args: argparse.Namespace) -> None:
    """Refuse what would only be found after the first episodes.

    Raises:
        ConfigError: several greedy episodes of a question, or baselines of a policy that has no model.
    """
    if args.samples > 1 and config.evaluation.temperature == 0:
        raise ConfigError(
            f"--samples {args.samples} at evaluation.temperature=0 would play every episode the same: add --temperature"
        )
    if args.compare_baselines and config.model.name in SCRIPTED:
        raise ConfigError(f"--compare-baselines needs a model, and {config.model.name} has none")


def settings_of(evaluation: Evaluation, max_questions: int | None) -> dict[str, Any]:
    """Return all that the figures depend on: an evaluation only goes on with the same."""
    base = evaluation.config.search.knowledge_base
    search = as_mapping(evaluation.config.search)
    return {
        **settings_of_model_alone(evaluation.config),
        "search": {**search, "passages": StoredPassages.open(Path(base)).fingerprint if base else None},
        "evaluation": {"temperature": evaluation.config.evaluation.temperature},
        "seed": evaluation.config.seed,
        "samples": evaluation.samples,
        "max_questions": max_questions,
        "questions": {name: file_digest(path) for name, path in evaluation.files.items()},
    }


def settings_of_model_alone(config: Config) -> dict[str, Any]:
    """Return what a model's episodes depend on, besides what all models share."""
    return {
        "model": {**as_mapping(config.model), "files": model_digest(Path(config.model.name).expanduser())},
        "rollout": as_mapping(config.rollout),
        "reward": {"max_search_steps": config.reward.max_search_steps},
        **({"sampled_in": "bfloat16"} if sampled_in_half(config) else {}),
    }


def play_all(
    evaluation: Evaluation, runners: Iterable[tuple[str, EpisodeRunner]], names: Sequence[str], ledger: StageLedger
) -> Scores:
    """Return the scores of every method on every dataset; predictions are written as they come."""
    counts = {name: len(questions) * evaluation.samples for name, questions in evaluation.questions.items()}
    stages = {_stage(dataset, method): float(count) for method in names for dataset, count in counts.items()}
    progress = StageProgress(evaluation.console, stages)
    scores: Scores = {name: {} for name in evaluation.questions}
    with progress.running():
        for method, runner in runners:
            for dataset in evaluation.questions:
                stage = _stage(dataset, method)
                with ledger.stage(stage):
                    scores[dataset][method] = play_one(evaluation, dataset, method, runner, progress)
    return scores


def play_one(
    evaluation: Evaluation, dataset: str, method: str, runner: EpisodeRunner, progress: StageProgress
) -> list[EpisodeScore]:
    """Return the scores of one method on one dataset."""
    tasks = tasks_of(evaluation.questions[dataset], evaluation.config.seed, evaluation.samples)
    log = PredictionLog(evaluation.predictions(dataset, method), evaluation.resume)
    if log.scores:
        say(evaluation.console, f"{_stage(dataset, method)}: going on after {len(log.scores):,} of {len(tasks):,}")
    batch_size, path = evaluation.config.evaluation.batch_size, evaluation.predictions(dataset, method)
    to_judge = len(tasks) if evaluation.judge else 0
    with progress.stage(_stage(dataset, method), max(len(tasks) - len(log.scores) + to_judge, 1)) as advance:
        scores = play(runner, tasks, log, batch_size, _shown(advance))
        if evaluation.judge is None:
            return scores
        scores = judge_predictions(path, evaluation.judge, batch_size, lambda count: advance(count, "judging"))
    unjudged = sum(score.played and score.judged is None for score in scores)
    if unjudged:
        say(evaluation.console, f"{_stage(dataset, method)}: {unjudged:,} answers not judged; --resume asks again")
    return scores


def _stage(dataset: str, method: str) -> str:
    return dataset if method == MODEL else f"{dataset}, {method}"


def _shown(advance: Advance) -> Watch:
    """Return what shows how far the episodes are, and how they do."""

    seen = failed = 0
    right = 0.0

    def watch(count: int, scores: Sequence[EpisodeScore]) -> None:
        nonlocal seen, failed, right
        right += sum(score.em for score in scores[seen:])
        failed += sum(not score.played for score in scores[seen:])
        seen = len(scores)
        note = f"{seen:,} played, EM {right / seen:.3f}"
        advance(count, f"{note}, {failed:,} failed" if failed else note)

    return watch
