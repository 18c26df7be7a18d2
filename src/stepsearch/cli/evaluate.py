"""`stepsearch evaluate`: how good a model is on the benchmarks, and how it compares."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stepsearch.cli.answer_judge import open_judge
from stepsearch.cli.assembly import settings_of_model
from stepsearch.cli.digests import file_digest, model_digest
from stepsearch.cli.evaluated_methods import (
    MODEL,
    SCRIPTED,
    method_names,
    methods,
    open_player,
    read_other_models,
)
from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.cli.searching import BM25, find_corpus, guard
from stepsearch.cli.stage_ledger import StageLedger
from stepsearch.cli.versions import package_versions
from stepsearch.config import Config, as_mapping, asked_keys
from stepsearch.data import Benchmark, KnowledgeBase, find_benchmark_file, read_benchmark
from stepsearch.data.whole_files import write_json, write_text
from stepsearch.errors import ConfigError, DataError
from stepsearch.evaluation.baselines import BASELINES
from stepsearch.evaluation.baselines_table import baselines_table
from stepsearch.evaluation.curves import write_tensorboard
from stepsearch.evaluation.figures import MethodFigures, measure_methods
from stepsearch.evaluation.judging import Judge, judge_predictions
from stepsearch.evaluation.metrics import EpisodeScore, mean, measure_scores
from stepsearch.evaluation.play import Watch, play, tasks_of
from stepsearch.evaluation.prediction_log import PredictionLog
from stepsearch.evaluation.published import published_json
from stepsearch.evaluation.report import SUMMARY
from stepsearch.evaluation.result_plots import plot_results
from stepsearch.evaluation.result_tables import Sheet, figures_sheet, methods_sheet
from stepsearch.evaluation.viewer import write_report
from stepsearch.evaluation.viewer.report_page import FILE_NAME
from stepsearch.progress import Advance
from stepsearch.rollout import EpisodeRunner
from stepsearch.search import SearchEngine, build_search_engine
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.training.metric_log import METRICS
from stepsearch.training.run_folder import RunFolder
from stepsearch.types import Question

LEDGER, TABLES, REPLIES = "evaluation.json", "evaluation.md", "replies.jsonl"
PLOTS, CURVES = "plots", "tensorboard"
_PAGE_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is evaluated on, and where it is written.

    Attributes:
        folder: of the results.
        files: of the benchmarks, by name.
        questions: of the benchmarks, by name.
        corpus: what is searched, in words.
        samples: episodes of every question.
        config: of the model under evaluation.
        resume: whether to go on with what is there.
        judge: says whether answers are right; None where nobody is asked.
        console: shows the progress.
    """

    folder: Path
    files: Mapping[str, Path]
    questions: Mapping[str, Sequence[Question]]
    corpus: str
    samples: int
    config: Config
    resume: bool
    judge: Judge | None
    console: Console

    def predictions(self, dataset: str, method: str) -> Path:
        """Return where a method's episodes on a dataset are."""
        return self.folder / f"predictions_{dataset}{'' if method == MODEL else f'.{method}'}.jsonl"


def run(args: argparse.Namespace) -> None:
    """Evaluate on every dataset that was asked for; write predictions, figures and pictures, and print the tables.

    Raises:
        ConfigError: settings contradict each other, or the folder holds another evaluation.
        DataError: a file or the corpus is missing, or the output folder cannot be written.
        ModelError: a model cannot be loaded.
    """
    console = open_console()
    folder = RunFolder.at(args.output_dir, parts=("results",)).results
    refuse_mixing(folder, args.resume)
    files = {name: find_benchmark_file(args.musique_dir, name) for name in dict.fromkeys(args.datasets)}
    benchmarks = {name: read_benchmark(path, name) for name, path in files.items()}
    config = settings_of_model(args.model_path, args.config, args.overrides, args.knowledge_base)
    refuse_impossible(config, args)
    config, engine, corpus = choose_corpus(args, config, list(benchmarks.values()))
    others = read_other_models(args.compare_model, args.config, args.overrides, config)
    search = guard(engine or build_search_engine(config.search), config.search)
    player = open_player(config, search, folder / REPLIES)
    say(console, corpus)
    questions = {name: benchmark.questions[: args.max_questions] for name, benchmark in benchmarks.items()}
    judge = open_judge(args.judge, folder / REPLIES) if args.judge else None
    evaluation = Evaluation(folder, files, questions, corpus, args.samples, config, args.resume, judge, console)
    ledger = StageLedger(folder / LEDGER, settings_of(evaluation, args.max_questions), args.resume)
    for name, other in others.items():
        # Another model of that name would be taken for this one.
        record = folder / f"evaluation.{name}.json"
        StageLedger(record, settings_of_model_alone(other), args.resume and record.is_file())
    names = method_names(args.compare_baselines, others)
    scores = play_all(evaluation, methods(player, args.compare_baselines, others, folder / REPLIES), names, ledger)
    report(evaluation, scores, ledger, {name: other.model.name for name, other in others.items()})


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
        "search": {**search, "passages": KnowledgeBase.open(Path(base)).fingerprint if base else None},
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
    }


def choose_corpus(
    args: argparse.Namespace, config: Config, benchmarks: Sequence[Benchmark]
) -> tuple[Config, SearchEngine | None, str]:
    """Return the settings, the engine where it is not built from them, and a line that says what is searched.

    The corpus is the files' own contexts, all of them together, searched with BM25, unless the user names a knowledge
    base or another engine. The knowledge base that the model remembers is not it.

    Raises:
        DataError: nothing is asked for and the files have no contexts.
    """
    asked, search = asked_keys(args.config, args.overrides), config.search
    engine_asked = "search.engine_type" in asked
    corpus_named = search.knowledge_base and (args.knowledge_base is not None or "search.knowledge_base" in asked)
    if corpus_named or (engine_asked and search.engine_type != BM25):
        settings, line = find_corpus(search, None, engine_asked)
        return config.model_copy(update={"search": settings}), None, line
    passages = {passage.id: passage for benchmark in benchmarks for passage in benchmark.passages}
    if not passages:
        names = " and ".join(benchmark.dataset for benchmark in benchmarks)
        raise DataError(
            f"{names} comes without documents to search: name a corpus with --knowledge-base DIR, or evaluate it "
            "together with a dataset that has contexts"
        )
    line = f"search: bm25 over the {len(passages):,} passages of the benchmark files' own contexts"
    own = search.model_copy(update={"engine_type": BM25, "knowledge_base": None})
    config = config.model_copy(update={"search": own})
    return config, BM25SearchEngine.from_passages(list(passages.values())), line


Scores = dict[str, dict[str, list[EpisodeScore]]]
"""Dataset to method to scores."""


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
        return judge_predictions(path, evaluation.judge, batch_size, lambda count: advance(count, "judging"))


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


def report(evaluation: Evaluation, scores: Scores, ledger: StageLedger, other_models: Mapping[str, str]) -> None:
    """Write summary, tables, pictures and curves, and print the tables."""
    folder, console = evaluation.folder, evaluation.console
    results = {dataset: measure_methods(methods) for dataset, methods in scores.items()}
    compared = any(name in BASELINES for methods in scores.values() for name in methods)
    summary = {
        "model": evaluation.config.model.name,
        "other_models": dict(other_models),
        "corpus": evaluation.corpus,
        "datasets": {name: dataset_json(evaluation, name, scores[name], results[name]) for name in results},
        "published": published_json(evaluation.config.model.name) if compared else None,
        "seed": evaluation.config.seed,
        "samples": evaluation.samples,
        "seconds": sum(ledger.seconds.values()),
        "config": as_mapping(evaluation.config),
        "versions": package_versions(),
    }
    write_json(folder / SUMMARY, summary)
    write_text(folder / TABLES, tables_markdown(evaluation, results, compared))
    plot_results(folder / PLOTS, results)
    if evaluation.config.logging.tensorboard:
        write_tensorboard(folder / CURVES, results)
    logs = folder.parent / "logs"
    write_report(folder / FILE_NAME, folder, training_logs=logs if (logs / METRICS).is_file() else None)
    console.print(model_sheet(results).to_table())
    # Beside published numbers there is one table of all methods, else one a dataset with more figures.
    tables = [published_table(evaluation, results)] if compared else [of.to_table() for of in method_sheets(results)]
    for table in tables:
        console.print(table)
    say(console, f"written to {folder}")


def dataset_json(
    evaluation: Evaluation,
    dataset: str,
    scores: Mapping[str, Sequence[EpisodeScore]],
    results: Mapping[str, MethodFigures],
) -> dict[str, Any]:
    """Return what the summary says of a dataset: the model's figures, and under `methods` everything else's."""
    flat = {name: measure_scores(of, evaluation.samples) for name, of in scores.items()}
    baselines = {name: of.to_json() for name, of in flat.items() if name in BASELINES}
    others = {
        name: {
            **measured.to_json(),
            "difference": {figure: of.to_json() for figure, of in measured.difference.items()},
            "predictions": evaluation.predictions(dataset, name).name,
        }
        for name, measured in results.items()
        if name != MODEL
    }
    return {
        **flat[MODEL].to_json(),
        "file": str(evaluation.files[dataset]),
        "predictions": evaluation.predictions(dataset, MODEL).name,
        **results[MODEL].to_json(),
        "per_seed": seeds_json(scores[MODEL], evaluation.config.seed) if evaluation.samples > 1 else None,
        "methods": others,
        "baselines": baselines or None,
    }


def seeds_json(scores: Sequence[EpisodeScore], first: int) -> list[dict[str, Any]]:
    """Return what an evaluation with each of the seeds alone would have found."""
    samples: dict[int, list[EpisodeScore]] = {}
    for score in scores:
        samples.setdefault(score.sample, []).append(score)
    return [
        {"seed": first + sample, "em": mean(of.em for of in played), "f1": mean(of.f1 for of in played)}
        for sample, played in sorted(samples.items())
    ]


Results = Mapping[str, Mapping[str, MethodFigures]]
"""Dataset to method to figures."""


def model_sheet(results: Results) -> Sheet:
    """Return the model's figures on every dataset."""
    return figures_sheet("Evaluation", {dataset: of[MODEL] for dataset, of in results.items()})


def method_sheets(results: Results) -> list[Sheet]:
    """Return all methods on each dataset, where there are others than the model."""
    return [methods_sheet(dataset, of) for dataset, of in results.items() if len(of) > 1]


def published_table(evaluation: Evaluation, results: Results) -> Table:
    """Return all methods on all datasets, and the published numbers of the model's own variant."""
    measured = {
        dataset: {name: {key: of.figures[key].to_json() for key in ("em", "f1")} for name, of in methods.items()}
        for dataset, methods in results.items()
    }
    differences = {
        dataset: {name: of.difference["em"].to_json() for name, of in methods.items() if of.difference}
        for dataset, methods in results.items()
    }
    return baselines_table(measured, evaluation.config.model.name, differences)


def tables_markdown(evaluation: Evaluation, results: Results, compared: bool) -> str:
    """Return all tables as one page."""
    parts = [f"# Evaluation of {evaluation.config.model.name}", evaluation.corpus]
    parts += [sheet.to_markdown() for sheet in (model_sheet(results), *method_sheets(results))]
    if compared:
        page = Console(file=StringIO(), width=_PAGE_WIDTH)
        with page.capture() as drawn:
            page.print(published_table(evaluation, results))
        parts.append(f"## Beside published numbers\n\n```\n{drawn.get().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
